#!/usr/bin/env bash
# Installs everything that the tests need, then runs them: setup/test.sh [small|stacks|pytest's arguments].
# `small` runs tests/unit and tests/integration, `stacks` runs tests/e2e; without arguments both run, one
# after the other. Other arguments go to a single pytest, which runs one test after the other.
#
# Reads from the environment: the variables of the other scripts of this folder.
set -euo pipefail
# shellcheck source=setup/docker.sh
source "$(dirname "${BASH_SOURCE[0]}")/docker.sh"
cd "$ROOT"

setup/packages.sh docker images tests
setup/venv.sh
setup/tools.sh
ensure_docker
images/build.sh leruli-test leruli-test-user psi4 mopac
pytest=("$VENV/bin/python" -m pytest)
# The tests start hundreds of our processes. Without byte code each would compile our modules again.
unset PYTHONDONTWRITEBYTECODE

# beside PATH… OPTION…: runs test files side by side, in the order of tests/conftest.py.
beside() { "${pytest[@]}" --dist loadfile --no-loadscope-reorder "$@"; }

small_tests() {
    say "pytest: tests/unit and tests/integration"
    # One worker per core, as these tests start processes all the time.
    local cores
    cores="$(nproc)"
    beside tests/unit tests/integration -n "$((cores < 4 ? cores : 4))"
}

stacks() {
    say "pytest: tests/e2e"
    # At most two. They mostly wait for timeouts (two use 0.8 of a core), but a job that gets no CPU time
    # runs into some of these timeouts.
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
