#!/usr/bin/env bash
# Installs what measuring needs, the peer, Docker and an image included, then measures:
# setup/bench.sh [bench's options]. Where systemd runs, Debian's munge starts a daemon of its own; it
# is not used, and SLURM itself does not start without a configuration.
#
# Reads from the environment: what the other scripts of this folder do.
set -euo pipefail
# shellcheck source=setup/docker.sh
source "$(dirname "${BASH_SOURCE[0]}")/docker.sh"
cd "$ROOT"

setup/packages.sh bench docker images
ensure_docker
setup/venv.sh
setup/tools.sh
setup/tools.sh nodesim
images/build.sh leruli-test
exec "$VENV/bin/python" -m bench "$@"
