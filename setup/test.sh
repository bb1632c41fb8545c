#!/usr/bin/env bash
# Installs what the tests need, then runs them: setup/test.sh [small|stacks|pytest's arguments]. `small`
# are tests/unit and tests/integration, `stacks` are tests/e2e, without arguments it is both, one after
# the other. With other arguments it is one run of pytest with these, one test after the other.
#
# Reads from the environment: what the other scripts of this folder do.
set -euo pipefail
# shellcheck source=setup/docker.sh
source "$(dirname "${BASH_SOURCE[0]}")/docker.sh"
cd "$ROOT"

setup/packages.sh docker images
setup/venv.sh
setup/tools.sh
ensure_docker
images/build.sh leruli-test leruli-test-user psi4
pytest=("$VENV/bin/python" -m pytest)
# The tests start hundreds of processes of ours, each of which would compile our modules anew.
unset PYTHONDONTWRITEBYTECODE

# small_tests and stacks: file by file side by side, in the order of tests/conftest.py.
beside() { "${pytest[@]}" --dist loadfile --no-loadscope-reorder "$@"; }

small_tests() {
    say "pytest: tests/unit and tests/integration"
    # A worker a core: they start processes all the time.
    local cores
    cores="$(nproc)"
    beside tests/unit tests/integration -n "$((cores < 4 ? cores : 4))"
}

stacks() {
    say "pytest: tests/e2e"
    # Two at most: they wait for time-outs most of the time (two keep 0.8 of a core busy), but a job that
    # gets no processor meets some of them.
    beside tests/e2e -n 2
}

case "${1:-}" in
small) small_tests ;;
stacks) stacks ;;
"")
    rc=0
    small_tests || rc=$?
    stacks || rc=$?
    exit "$rc"
    ;;
*) exec "${pytest[@]}" "$@" ;;
esac
