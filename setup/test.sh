#!/usr/bin/env bash
# Installs what the tests need, then runs them: setup/test.sh [pytest's arguments]. With arguments one
# run of pytest with these, without any two: what can run side by side, and the rest.
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

# Units and parts side by side, file by file; a whole stack has the machine for itself.
rc=0
workers="$(nproc)"
say "pytest: tests/unit and tests/integration"
"${pytest[@]}" tests/unit tests/integration -n "$((workers < 4 ? workers : 4))" --dist loadfile || rc=$?
say "pytest: tests/e2e"
"${pytest[@]}" tests/e2e || rc=$?
exit "$rc"
