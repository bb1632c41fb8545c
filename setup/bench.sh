#!/usr/bin/env bash
# Installs what measuring needs, the peer included, then measures: setup/bench.sh [bench's options].
# Where systemd runs, Debian's munge starts a daemon of its own; it is not used, and SLURM itself does
# not start without a configuration.
#
# Reads from the environment: what the other scripts of this folder do.
set -euo pipefail
# shellcheck source=setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

setup/packages.sh bench
setup/venv.sh
setup/tools.sh
setup/tools.sh nodesim
exec "$VENV/bin/python" -m bench "$@"
