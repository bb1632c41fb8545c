#!/usr/bin/env bash
# Installs what the tests need, then runs them: setup/test.sh [pytest's arguments]. With arguments one
# run of pytest with these, without any two: the small tests, and then those of a whole stack.
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
if (($#)); then exec "${pytest[@]}" "$@"; fi

# File by file side by side. Of stacks two at most: they wait for time-outs most of the time, but a job
# that gets no processor meets some of them.
rc=0
cores="$(nproc)"
say "pytest: tests/unit and tests/integration"
"${pytest[@]}" tests/unit tests/integration -n "$((cores < 4 ? cores : 4))" --dist loadfile || rc=$?
say "pytest: tests/e2e"
"${pytest[@]}" tests/e2e -n 2 --dist loadfile || rc=$?
exit "$rc"
