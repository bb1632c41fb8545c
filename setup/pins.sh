#!/usr/bin/env bash
# Writes requirements/*.txt: every Python package that is installed, with version and hashes. uv's own
# settings name the package index; its address is not written to the files.
#
# Reads from the environment: the variables of setup/lib.sh, of uv and of the network.
set -euo pipefail
# shellcheck source=setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

uv="$VENV/bin/uv"
if [[ ! -x "$uv" ]]; then uv="$(command -v uv)" || die "uv is not installed." "Run 'make test' once."; fi

# pins NAME OLDEST_PYTHON ARGUMENT…: writes requirements/NAME.txt. A dependency on leruli-node is left
# out, as pip installs it from this tree.
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
    # Pin one version of pip for all Pythons of a node, not a newer one for the newer Pythons.
    pins node-installer 3.9 --fork-strategy fewest requirements/node-installer.in
    pins go 3.11 requirements/go.in
    pins published-client 3.11 requirements/published-client.in
    pins ase 3.11 requirements/ase.in
}
step "pinning the Python packages" all
