#!/usr/bin/env bash
# Installs everything that the bench needs, with the peer, Docker and an image, then runs it:
# setup/bench.sh [bench's options]. With systemd, Debian's munge starts its own daemon, which the bench
# does not use. SLURM itself does not start without a configuration.
#
# Reads from the environment: the variables of the other scripts of this folder.
set -euo pipefail
# shellcheck source=setup/docker.sh
source "$(dirname "${BASH_SOURCE[0]}")/docker.sh"
cd "$ROOT"

setup/packages.sh bench docker images
ensure_docker
setup/venv.sh
setup/tools.sh
setup/tools.sh nodesim
images/build.sh leruli-test xtb
exec "$VENV/bin/python" -m bench "$@"
