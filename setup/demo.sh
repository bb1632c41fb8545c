#!/usr/bin/env bash
# `make demo`: installs missing packages, starts the whole service on this machine, and runs the
# calculation of the manual through it as a user would. At the end a table lists the time of each step.
#
# Reads from the environment:
#   LERULI_QUEUE_DEMO_DATA   folder for the demo's database, objects and logs (default .demo/)
# and the variables of the other scripts of this folder.
set -euo pipefail
# shellcheck source=setup/docker.sh
source "$(dirname "${BASH_SOURCE[0]}")/docker.sh"
cd "$ROOT"

say "a demonstration of Leruli Queue, on this machine alone"
note "It installs missing Debian packages, makes .venv here, builds Nomad and an S3 server once"
note "(kept in $CACHE), makes a Docker image of psi4, starts everything,"
note "and runs the manual's calculation. The first time takes 10 to 15 minutes on 2 cores, later ones 1."

mkdir -p "$CACHE"
LERULI_QUEUE_STEPS="$(mktemp "$CACHE/steps.XXXXXX")"
export LERULI_QUEUE_STEPS
trap 'rm -f "$LERULI_QUEUE_STEPS"' EXIT

setup/packages.sh docker images
setup/venv.sh
setup/tools.sh
ensure_docker
images/build.sh psi4
"$VENV/bin/python" setup/demo.py --data "${LERULI_QUEUE_DEMO_DATA:-$ROOT/.demo}"
