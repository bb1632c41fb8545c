#!/usr/bin/env bash
# Installs what the tests need, then runs them: setup/test.sh [pytest's arguments].
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
say "pytest"
exec "$VENV/bin/python" -m pytest "$@"
