#!/usr/bin/env bash
# Makes the virtual environment .venv in the tree: what requirements/all.txt pins, by hash, and the
# three distributions of this repository in editable form. Done again only when requirements/all.txt
# or a pyproject.toml changed; made anew when Python itself did.
#
# Reads from the environment: what setup/lib.sh does, LERULI_QUEUE_PYTHON (see setup/python.sh).
set -euo pipefail
# shellcheck source=setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

STAMP="$VENV/.made-from"
PROJECTS=(. cli node_setup)

# Settings of the caller's own pip would put packages elsewhere.
pip() {
    env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX -u PIP_REQUIRE_VIRTUALENV -u PYTHONPATH \
        "$VENV/bin/python" -m pip --disable-pip-version-check "$@"
}

install_pinned() { pip install --require-hashes -r requirements/all.txt; }

install_projects() {
    local project args=()
    for project in "${PROJECTS[@]}"; do args+=(-e "$project"); done
    pip install --no-deps --no-build-isolation "${args[@]}"
}

"$ROOT/setup/packages.sh" python
python="$("$ROOT/setup/python.sh")" || die "no Python 3.11 or newer was found on the PATH." \
    "Install one, or let LERULI_QUEUE_PYTHON name it."

# Two at once would write over each other; the second finds the work done.
exec 8>"$ROOT/.venv.lock"
flock 8

interpreter="$("$python" -I -c 'import sys; print(sys.version, sys.executable)')"
made_from="$(
    {
        printf '%s\n' "$interpreter" "$ROOT"
        cat requirements/all.txt pyproject.toml cli/pyproject.toml node_setup/pyproject.toml
    } | sha256sum | cut -d ' ' -f 1
)"
if [[ "$(cat "$STAMP" 2>/dev/null)" == "$made_from" ]]; then exit 0; fi

rm -f "$STAMP"
if [[ "$(cat "$VENV/.python" 2>/dev/null)" != "$interpreter" ]]; then
    step "making the virtual environment .venv with $python" "$python" -m venv --clear "$VENV"
    printf '%s\n' "$interpreter" >"$VENV/.python"
fi
step "installing the pinned Python packages" install_pinned
step "installing leruli-queue, leruli and leruli-node from this tree" install_projects
printf '%s\n' "$made_from" >"$STAMP"
