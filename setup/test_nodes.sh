#!/usr/bin/env bash
# `make test-nodes`: machines made of namespaces become nodes by the package, and run jobs.
# setup/test_nodes.sh [pytest's arguments]. It needs root to make namespaces, users and a bridge.
#
# Reads from the environment: the variables of the other scripts of this folder.
set -euo pipefail
# shellcheck source=setup/docker.sh
source "$(dirname "${BASH_SOURCE[0]}")/docker.sh"
cd "$ROOT"

((EUID == 0)) || die "these tests make machines of namespaces, which needs root." "Run: sudo make test-nodes"
setup/packages.sh docker images nodes
setup/venv.sh
setup/tools.sh
setup/dist.sh
ensure_docker
images/build.sh leruli-test
# As in setup/test.sh.
unset PYTHONDONTWRITEBYTECODE
say "pytest tests/nodes"
exec "$VENV/bin/python" -m pytest -p no:cacheprovider tests/nodes "$@"
