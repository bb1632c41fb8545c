#!/usr/bin/env bash
# `make test-nodes`: machines made of namespaces become nodes by the package, and run jobs.
# setup/test_nodes.sh [pytest's arguments]; as root, because it makes namespaces, users and a bridge.
#
# Reads from the environment: what the other scripts of this folder do.
set -euo pipefail
# shellcheck source=setup/docker.sh
source "$(dirname "${BASH_SOURCE[0]}")/docker.sh"
cd "$ROOT"

((EUID == 0)) || die "these tests make machines of namespaces, which takes root." "Run: sudo make test-nodes"
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
