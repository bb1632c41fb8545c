#!/usr/bin/env bash
# Removes the node from this machine: the unit, the node agent, rootless Docker's set-up, this package
# with its node.env, and last the data: Docker's images and the folder of the jobs. Run it as root.
# It drains the node first, and stops if results are not uploaded yet. What a person made by hand
# (the user, packages, ids) stays; the script prints the commands to remove it.
#
#   uninstall.sh              asks before it begins
#   uninstall.sh --yes        does not ask
#   uninstall.sh --discard    also removes results that are not uploaded: those jobs run again elsewhere
#   uninstall.sh --keep-data  leaves Docker's images and the folder of the jobs
#
# Exit codes: 0 done; 1 failed, or not wanted; 2 wrong usage; 3 results are not uploaded yet.
#
# Reads from the environment:
#   LERULI_NODE_DIR    folder of the jobs (default: what node.env says, else /data/leruli/nomad)
#   LERULI_NODE_USER   the user of the jobs (default leruli)
#   NO_COLOR           when set, no colours
set -euo pipefail
# shellcheck source=node_setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

RUN_AS="${LERULI_NODE_USER:-leruli}"
usage() { sed -n '2,/^set -/ { /^set -/d; s/^# \{0,1\}//p }' "${BASH_SOURCE[0]}"; }

yes=0 discard=0 keep_data=0
for option in "$@"; do
    case "$option" in
    --yes) yes=1 ;;
    --discard) discard=1 ;;
    --keep-data) keep_data=1 ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) die 2 "uninstall.sh does not know '$option'." "It knows --yes, --discard, --keep-data, --help." ;;
    esac
done
((EUID == 0)) || die 2 "uninstall.sh is for root."
id "$RUN_AS" >/dev/null 2>&1 || die 1 "there is no user $RUN_AS, so there is no node of that user here." \
    "Remove this package by hand: rm -r $HERE"

# The folder of the jobs that run.sh used.
node_dir() {
    local value=''
    if [[ -n "${LERULI_NODE_DIR:-}" ]]; then
        printf '%s' "$LERULI_NODE_DIR"
        return
    fi
    if [[ -f "$HERE/node.env" ]]; then
        value="$(sed -nE 's/^[[:space:]]*(export +)?LERULI_NODE_DIR=["'\'']?([^"'\'']*)["'\'']?[[:space:]]*$/\2/p' \
            "$HERE/node.env" | tail -n 1)"
    fi
    printf '%s' "${value:-/data/leruli/nomad}"
}
NODE_DIR="$(node_dir)"
HOME_OF_USER="$(home_of "$RUN_AS")"
DOCKER_DATA="$HOME_OF_USER/.local/share/docker"

ask() {
    local answer
    say "this removes the node from $(hostname)"
    note "drain it, then remove: the unit, $HOME_OF_USER/$AGENT_FOLDER, Docker's user unit, $HERE"
    if ((keep_data)); then note "and keep $DOCKER_DATA and $NODE_DIR"; else
        note "and last the data: $DOCKER_DATA, $NODE_DIR"
    fi
    if ((yes)); then return; fi
    read -r -p "    Go on? (yes/no) " answer </dev/tty || die 1 "nobody answers; use --yes."
    [[ "$answer" == yes ]] || die 1 "nothing was changed."
}

# Everything about the user's own files is done as that user: a link of the user must not redirect
# root.
stop_agent() {
    as_user "$RUN_AS" bash -s "$NODE_DIR" <<'USER'
pid="$(cat "$1/agent.lock" 2>/dev/null)" || exit 0
is_agent() { tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q 'leruli-node run'; }
[[ "$pid" =~ ^[0-9]+$ ]] && is_agent || exit 0
echo "    draining the node (process $pid); it waits for what runs"
kill -TERM "$pid"
while is_agent; do sleep 0.2; done
USER
}

refuse_if_results_are_left() {
    local left
    left="$(as_user "$RUN_AS" find "$NODE_DIR/attempts" "$NODE_DIR/receipts" -name '*.json' 2>/dev/null | wc -l)" || true
    if ((left == 0)); then return; fi
    if ((discard)); then
        note "discarding what $left file(s) say about results that are not uploaded"
        return
    fi
    die 3 "$left result(s) or receipt(s) of jobs are not with the service yet, in $NODE_DIR." \
        "Let the node upload them: bash $HERE/run.sh, until its log is quiet; then run this again." \
        "Or discard them with --discard: those jobs run again on another node."
}

stop_docker() {
    as_user "$RUN_AS" bash -s <<'USER'
if [[ -d /run/systemd/system ]] && grep -qs 'Made by get-started.sh' ~/.config/systemd/user/docker.service; then
    systemctl --user disable --now --quiet docker.service || true
    rm -f ~/.config/systemd/user/docker.service
    systemctl --user daemon-reload || true
fi
pid="$(cat "$XDG_RUNTIME_DIR/docker.pid" 2>/dev/null)"
if [[ "$pid" =~ ^[0-9]+$ && "$(cat "/proc/$pid/comm" 2>/dev/null)" == dockerd ]]; then
    kill -TERM "$pid"
    while [[ -d "/proc/$pid" && "$(cut -d ' ' -f 3 "/proc/$pid/stat" 2>/dev/null)" != Z ]]; do sleep 0.2; done
fi
for i in {1..50}; do
    pgrep -u "$(id -u)" -x rootlesskit >/dev/null || break
    sleep 0.2
done
# A killed rootlesskit leaves these folders.
find /tmp -maxdepth 1 -name 'rootlesskit*' -user "$(id -u)" -exec rm -rf {} +
rm -rf "$XDG_RUNTIME_DIR"/{docker,docker.pid,docker.sock,dockerd-rootless,leruli-docker.lock,leruli-node}
USER
}

# remove_agent: also removes the key that dockerd makes, and folders that are empty then.
remove_agent() {
    as_user "$RUN_AS" bash -s "$AGENT_FOLDER" <<'USER'
cd
rm -rf -- "$1" .config/docker/key.json
for folder in .config/systemd/user .config/docker .local/share; do
    rmdir --ignore-fail-on-non-empty -p "$folder" 2>/dev/null
done
true
USER
}

# Files of containers belong to subordinate ids, which are accessible only in a user namespace of
# the user.
remove_data() {
    # shellcheck disable=SC2016  # expanded by the user's shell
    as_user "$RUN_AS" rootlesskit bash -c 'for folder in "$@"; do
        [[ -d "$folder" ]] || continue
        find "$folder" -mindepth 1 -delete
        rmdir -- "$folder" 2>/dev/null || true
    done' bash "$DOCKER_DATA" "$NODE_DIR"
}

by_hand() {
    say "done. What was made by hand is still there; as root:"
    note "userdel -r $RUN_AS                 # with its home folder and subordinate ids"
    note "rm -r $(dirname "$NODE_DIR")                # the folder that README.md had you make"
    if has_systemd; then
        note "loginctl disable-linger $RUN_AS    # before userdel"
        note "rm -r /etc/systemd/system/user@.service.d/delegate.conf"
    fi
    note "and the packages: apt-get remove docker.io uidmap slirp4netns rootlesskit"
}

# One function, so that bash has read the whole file before it is deleted.
main() {
    ask
    if has_systemd && [[ -e /etc/systemd/system/leruli-node.service ]]; then
        bash "$HERE/run.sh" --remove-unit
    fi
    say "stopping the node agent"
    stop_agent
    refuse_if_results_are_left
    say "stopping Docker"
    stop_docker
    say "removing the node agent and this package"
    remove_agent
    if ((!keep_data)); then
        say "removing the data"
        remove_data
    fi
    rm -f "$HERE/node.env"
    rm -rf --one-file-system "$HERE"
    by_hand
    exit 0
}
main
