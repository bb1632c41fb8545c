#!/usr/bin/env bash
# Makes this machine ready to be a node: checks it, installs the node agent, sets up rootless Docker.
# Run it as the user who is to run the jobs (leruli), never as root, and as often as you like.
#
#   get-started.sh                 all of it; changes nothing while something is missing
#   get-started.sh --check         only checks; says what is missing, with root's commands for it
#   get-started.sh --dry-run       checks, and says what would be done
#   get-started.sh --start-docker  only starts the Docker that was set up (run.sh uses it)
#
# Exit codes: 0 done; 1 failed; 2 wrong usage; 3 something is missing that root has to put right.
#
# Reads from the environment:
#   LERULI_NODE_DIR         folder of the jobs and of the agent's notes (default /data/leruli/nomad)
#   LERULI_NODE_PYTHON      a CPython 3.9 to 3.13 to use, instead of looking on the PATH
#   LERULI_NODE_MIN_GB      free space in GB below which a disk is called small (default 20)
#   LERULI_NODE_ROOTFUL     `allow`: a Docker that runs as root may stay
#   NO_COLOR                when set, no colours
set -euo pipefail
# shellcheck source=node_setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=node_setup/checks.sh
source "$HERE/checks.sh"
# shellcheck source=node_setup/rootless_docker.sh
source "$HERE/rootless_docker.sh"

usage() { sed -n '2,/^set -/ { /^set -/d; s/^# \{0,1\}//p }' "${BASH_SOURCE[0]}"; }

mode=setup
case "${1:-}" in
'') ;;
--check | --dry-run | --start-docker) mode="${1#--}" ;;
-h | --help)
    usage
    exit 0
    ;;
*) die 2 "get-started.sh does not know '$1'." "It knows --check, --dry-run, --start-docker, --help." ;;
esac
(($# <= 1)) || die 2 "get-started.sh takes one option at most."
((EUID != 0)) || die 2 "get-started.sh is for the user who runs the jobs, not for root." \
    "Run: su - leruli -c 'bash $HERE/get-started.sh'"

NODE_DIR="${LERULI_NODE_DIR:-/data/leruli/nomad}"
session_of "$(id -un)"
AGENT="$HOME/$AGENT_FOLDER"

if [[ $mode == start-docker ]]; then
    find_python || die 1 "no CPython 3.9 to 3.13 was found." "Run: bash $HERE/get-started.sh --check"
    start_docker
    exit 0
fi

install_agent() {
    local pip wheels="$HERE/wheels"
    if is_current; then
        note "the node agent is installed and current"
        return
    fi
    rm -f "$AGENT/made-from"
    mkdir -p "$AGENT"
    # Debian's python3 makes environments without pip (python3-venv), so the package contains pip.
    "$PYTHON" -I -m venv --clear --without-pip "$AGENT/venv"
    pip=("$wheels"/pip-*.whl)
    local install=(env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX PYTHONPATH="${pip[0]}"
        PIP_CONFIG_FILE=/dev/null "$AGENT/venv/bin/python" -m pip --disable-pip-version-check
        install --quiet --no-index --find-links "$wheels")
    "${install[@]}" --require-hashes -r "$wheels/node.txt"
    "${install[@]}" --no-deps "$wheels"/leruli_node-*.whl
    ln -sfn "$HERE/nomad" "$HERE/leruli-driver" "$HERE/leruli-runner" "$AGENT/venv/bin/"
    made_from >"$AGENT/made-from"
    note "leruli-node $("$AGENT/venv/bin/leruli-node" version) is in $AGENT"
}

say "checking this machine"
check_all
if ((${#root_commands[@]})); then
    printf '\n%s\n\n' "${_bold}As root:${_plain}"
    printf '    %s\n' "${root_commands[@]}"
    echo
fi
if ((missing_count)); then
    die 3 "$missing_count thing(s) are missing (above, with root's commands for them)." \
        "Afterwards run this again: bash $HERE/get-started.sh"
fi
if [[ $mode == check ]]; then
    say "nothing is missing"
    exit 0
fi
if [[ $mode == dry-run ]]; then
    say "nothing is missing; without --dry-run this would"
    note "install the node agent in $AGENT/venv, from the package, with $PYTHON"
    describe_docker_setup
    exit 0
fi
say "installing the node agent"
install_agent
say "setting up rootless Docker"
set_up_docker
start_docker
report_docker
say "this machine is ready. Now, as root: fill in $HERE/node.env, then bash $HERE/run.sh"
