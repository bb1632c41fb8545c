#!/usr/bin/env bash
# Installs everything that the soak needs, then runs it: setup/soak.sh [soak's options]. It takes about
# half an hour on two cores. soak/README.md describes it.
#
# Reads from the environment: the variables of the other scripts of this folder.
set -euo pipefail
# shellcheck source=setup/docker.sh
source "$(dirname "${BASH_SOURCE[0]}")/docker.sh"
cd "$ROOT"

setup/packages.sh docker images
setup/venv.sh
setup/tools.sh
ensure_docker
images/build.sh leruli-test
exec "$VENV/bin/python" -m soak "$@"
