#!/usr/bin/env bash
# Writes requirements/*.txt anew: every Python package that is installed, with version and hashes.
# The package index is the one that uv is set up for; its address is not written down.
#
# Reads from the environment: what setup/lib.sh does, and uv's and the network's own variables.
set -euo pipefail
# shellcheck source=setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

uv="$VENV/bin/uv"
if [[ ! -x "$uv" ]]; then uv="$(command -v uv)" || die "uv is not installed." "Run 'make test' once."; fi

# pins NAME OLDEST_PYTHON ARGUMENT…: requirements/NAME.txt.
# What another input asks of leruli-node means the one in this tree, which pip installs from there.
pins() {
    local name=$1 python=$2 partial
    shift 2
    partial="$(mktemp)"
    {
        printf '# Made by "make pins" (uv pip compile --generate-hashes --universal) for Python >= %s from:\n' \
            "$python"
        printf '# %s. Do not edit.\n' "${*/%-/node_setup/pyproject.toml}"
    } >"$partial"
    "$uv" pip compile --quiet --generate-hashes --universal --python-version "$python" --upgrade \
        --no-header --no-emit-index-url --no-emit-find-links --no-emit-package leruli-node \
        "$@" <<<'./node_setup' >>"$partial"
    if grep -q '://' "$partial"; then
        die "requirements/$name.txt would hold an address:" "$(grep -m 1 '://' "$partial")"
    fi
    chmod 644 "$partial"
    mv "$partial" "requirements/$name.txt"
}

all() {
    pins all 3.11 --extra embedded pyproject.toml cli/pyproject.toml requirements/dev.in -
    pins client 3.9 cli/pyproject.toml
    pins node 3.9 node_setup/pyproject.toml
    # One pip for all of a node's Pythons, not a newer one for the newer of them.
    pins node-installer 3.9 --fork-strategy fewest requirements/node-installer.in
    pins published-client 3.11 requirements/published-client.in
}
step "pinning the Python packages" all
