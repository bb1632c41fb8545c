#!/usr/bin/env bash
# Makes the virtual environment .venv in the tree. It holds the pins of requirements/all.txt, checked by
# hash, and the three distributions of this repository in editable form. It installs again after a change
# of requirements/all.txt or a pyproject.toml, and makes a new environment for another Python.
#
# Reads from the environment: the variables of setup/lib.sh, LERULI_QUEUE_PYTHON (see setup/python.sh).
set -euo pipefail
# shellcheck source=setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

STAMP="$VENV/.made-from"
PROJECTS=(. cli node_setup)

# The caller's settings of pip could put packages elsewhere.
pip() {
    env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX -u PIP_REQUIRE_VIRTUALENV -u PYTHONPATH \
        "$VENV/bin/python" -m pip --disable-pip-version-check "$@"
}

install_pinned() { pip install --require-hashes -r requirements/all.txt; }

install_projects() {
    local project args=()
    for project in "${PROJECTS[@]}"; do args+=(-e "$project"); done
    # Put folders on sys.path. The default is an import hook per project, which cost every start of Python
    # 0.06 s of CPU time: three times as much as the start itself.
    pip install --no-deps --no-build-isolation --config-settings editable_mode=compat "${args[@]}"
}

"$ROOT/setup/packages.sh" python
python="$("$ROOT/setup/python.sh")" || die "no Python 3.11 or newer was found on the PATH." \
    "Install one, or let LERULI_QUEUE_PYTHON name it."

# The lock keeps two runs from overwriting each other's files. The second one then finds nothing to do.
exec 8>"$ROOT/.venv.lock"
flock 8

interpreter="$("$python" -I -c 'import sys; print(sys.version, sys.executable)')"
made_from="$(
    {
        printf '%s\n' "$interpreter" "$ROOT"
        cat setup/venv.sh requirements/all.txt pyproject.toml {cli,node_setup}/pyproject.toml
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
