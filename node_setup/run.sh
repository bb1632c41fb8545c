#!/usr/bin/env bash
# Connects this machine to the service as a node and shows the node agent's log. Run it as root, in
# screen or as a unit; the agent, Nomad and Docker run as the user of the jobs. It ends when it cannot
# connect, and says why.
#
#   run.sh                  until Ctrl-C or TERM, which drain the node: it takes no new jobs, running jobs
#                           may end for a while and are then requeued; a second signal waits for
#                           nothing
#   run.sh --install-unit   let systemd run it, now and at every start of the machine
#   run.sh --remove-unit    undo that (which drains the node)
#
# Exit codes: 0 ended by a signal; 1 failed; 2 wrong usage; 69 Docker or Nomad unsuitable; 73 an agent
# runs already; 75 service or object store cannot be reached, or the clock is wrong; 77 the service
# refuses this node;
# 78 node.env is missing, wrong, or can be read by others.
#
# Reads from the environment:
#   LERULI_NODE_ENV    the file with the settings (default node.env beside this script)
#   LERULI_NODE_USER   the user of the jobs (default leruli)
#   NO_COLOR           when set, no colours
set -euo pipefail

# Root runs these files, so a user who could change them would become root. Checked before any of
# them is read.
only_roots() {
    local mode path=$1
    while :; do
        mode="$(stat -Lc '%u %a' "$path")"
        # Others may write to a sticky folder such as /tmp, but not replace root's files in it.
        if [[ "${mode% *}" != 0 ]] || (((8#${mode#* } & 8#22) && !(8#${mode#* } & 8#1000))); then
            printf '%s\n' "error: $path can be changed by others than root, and root is to run what is in it." \
                "       Unpack the package as root: tar -C /opt -xf nomadrun.tar, and use /opt/nomadrun." >&2
            exit 1
        fi
        if [[ "$path" == / ]]; then return; fi
        path="$(dirname "$path")"
    done
}
folder="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
if ((EUID == 0)); then
    for file in run.sh lib.sh; do only_roots "$folder/$file"; done
fi
# shellcheck source=node_setup/lib.sh
source "$folder/lib.sh"

NODE_ENV="${LERULI_NODE_ENV:-$HERE/node.env}"
RUN_AS="${LERULI_NODE_USER:-leruli}"
UNIT=/etc/systemd/system/leruli-node.service

usage() { sed -n '2,/^set -/ { /^set -/d; s/^# \{0,1\}//p }' "${BASH_SOURCE[0]}"; }

# read_node_env: exports the settings, after it has checked that only root can read them.
read_node_env() {
    local line name value number=0
    [[ -f "$NODE_ENV" ]] || die 78 "there is no $NODE_ENV." \
        "Make it: install -m 600 $HERE/node.env.example $NODE_ENV, and fill it in."
    read -r owner mode < <(stat -Lc '%u %a' "$NODE_ENV")
    if ((owner != 0 || 8#$mode & 8#177)); then
        die 78 "$NODE_ENV holds secrets and can be used by others than root (mode $mode, owner $(stat -Lc %U "$NODE_ENV"))." \
            "Run: chown root: $NODE_ENV; chmod 600 $NODE_ENV" \
            "If somebody may have read it, have an admin rotate the compute secret."
    fi
    while IFS= read -r line || [[ -n "$line" ]]; do
        number=$((number + 1))
        line="${line%$'\r'}"
        if [[ "$line" =~ ^[[:space:]]*(#|$) ]]; then continue; fi
        if ! [[ "$line" =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]]; then
            die 78 "line $number of $NODE_ENV is not NAME=VALUE."
        fi
        name="${BASH_REMATCH[2]}" value="${BASH_REMATCH[3]}"
        value="${value%"${value##*[![:space:]]}"}"
        if [[ "$value" =~ ^\"(.*)\"$ || "$value" =~ ^\'(.*)\'$ ]]; then value="${BASH_REMATCH[1]}"; fi
        case "$name" in
        LERULI_* | SSL_CERT_FILE | HTTP_PROXY | HTTPS_PROXY | NO_PROXY) export "$name=$value" ;;
        *) die 78 "line $number of $NODE_ENV sets $name, which is no setting of a node." \
            "Settings are LERULI_…, SSL_CERT_FILE, HTTP_PROXY, HTTPS_PROXY, NO_PROXY; README.md has them." ;;
        esac
    done <"$NODE_ENV"
}

# become_agent COMMAND…: replaces this process by the command, like as_user, but with the settings.
# They are passed in the environment, as a command line is public.
become_agent() {
    local name
    for name in $(compgen -e); do
        case "$name" in
        LERULI_* | SSL_CERT_FILE | HTTP_PROXY | HTTPS_PROXY | NO_PROXY) ;;
        PATH | LANG | LC_ALL | TZ | TERM | NO_COLOR) ;;
        *) unset "$name" ;;
        esac
    done
    session_of "$RUN_AS"
    : "${LERULI_NODE_DOCKER_SOCKET:=$XDG_RUNTIME_DIR/docker.sock}"
    export LERULI_NODE_DOCKER_SOCKET
    cd /
    # A session of its own: Ctrl-C must reach only this script, which passes it on once.
    exec setsid setpriv --reuid "$RUN_AS" --regid "$(id -g "$RUN_AS")" --init-groups --no-new-privs \
        --pdeathsig TERM "$@"
}

# Without systemd this must be done after each restart of the machine: the folder for the user's
# sockets, and the mode of the device that get-started.sh asked for.
prepare_machine() {
    local folder
    if has_systemd; then return; fi
    if [[ -c /dev/net/tun ]]; then chmod 666 /dev/net/tun; fi
    folder="/run/user/$(id -u "$RUN_AS")"
    if [[ ! -d "$folder" ]]; then
        install -d -m 755 /run/user
        install -d -m 700 -o "$RUN_AS" -g "$(id -g "$RUN_AS")" "$folder"
    fi
}

start_docker() { as_user "$RUN_AS" bash "$HERE/get-started.sh" --start-docker; }

# docker_lives: runs as the user, who owns the file's folder. Root would follow a link there.
docker_lives() {
    # shellcheck disable=SC2016 # the shell that is started expands these
    as_user "$RUN_AS" timeout 5 bash -c 'source "$1"; lives "$2"' - \
        "$HERE/lib.sh" "/run/user/$(id -u "$RUN_AS")/docker.pid"
}

# keep_docker: starts Docker again when it has ended, as there is no systemd to do so. It ends with
# this script ($$), also when that is killed.
keep_docker() {
    # The sleep may outlive this script, and must not keep its output open.
    while sleep 5 >/dev/null 2>&1 && kill -0 $$; do
        if ! docker_lives; then
            note "Docker has ended; starting it again"
            start_docker || true
        fi
    done
}

# last_words CODE: tells the operator how the agent ended, and what to do.
last_words() {
    case "$1" in
    0) say "this node has left; its jobs have ended or are in the queue again" ;;
    69) die 69 "not connected: Docker or Nomad do not suit (the line above says which)." \
        "As $RUN_AS: bash $HERE/get-started.sh" ;;
    73) die 73 "not connected: a node agent runs already with this folder." \
        "Stop it first: systemctl stop leruli-node, or Ctrl-C where it runs." ;;
    75) die 75 "not connected: the line above says why." \
        "Check $NODE_ENV, the network and the clock, then run this again." ;;
    77) die 77 "not connected: this node is refused (the line above says why)." \
        "The compute secret may have been rotated: get the new one from an admin, put it into $NODE_ENV." ;;
    78) die 78 "not connected: settings are missing or wrong (the line above names them)." \
        "They are in $NODE_ENV; README.md has their meaning." ;;
    *) die 1 "the node agent ended unexpectedly (code $1); the service gives its jobs to other nodes." \
        "Run this again: it goes on with running jobs. The log above says more." ;;
    esac
}

# connected_before: such a node waits for a service that is away. A new one says so and ends.
connected_before() { [[ -e "${LERULI_NODE_DIR:-/data/leruli/nomad}/nomad/client/state.db" ]]; }

run() {
    local program rc agent='' keeper='' signalled earlier=0
    ((EUID == 0)) || die 2 "run.sh is for root: it reads $NODE_ENV, and starts the rest as $RUN_AS."
    id "$RUN_AS" >/dev/null 2>&1 || die 1 "there is no user $RUN_AS. README.md, \"The user\", makes it."
    read_node_env
    [[ -n "${LERULI_BASEURL:-}" ]] || die 78 "LERULI_BASEURL is not set in $NODE_ENV." \
        "It is the address of the service that the group's secrets are of; no other gets them." \
        "Ask the admin of the group for it. The service of Leruli itself is https://api.leruli.com."
    program="$(home_of "$RUN_AS")/$AGENT_FOLDER/venv/bin/leruli-node"
    [[ -x "$program" ]] || die 69 "the node agent is not installed for $RUN_AS." \
        "Run: su - $RUN_AS -c 'bash $HERE/get-started.sh'"
    prepare_machine
    say "starting Docker, as $RUN_AS"
    # Before Nomad, which would fail the jobs that it recovers while Docker is away.
    start_docker || die 69 "Docker did not start; see above."
    say "connecting to $LERULI_BASEURL"
    rc=0
    (become_agent "$program" check) || rc=$?
    if ((rc == 75)) && connected_before; then
        note "this node was connected before: it starts all the same and waits"
    elif ((rc)); then
        last_words "$rc"
    fi
    if ! has_systemd; then
        keep_docker &
        keeper=$!
    fi
    become_agent "$program" run &
    agent=$!
    trap 'signalled=1; kill -TERM "$agent" 2>/dev/null || true' TERM INT HUP
    rc=0
    while :; do
        signalled=0
        wait "$agent" && rc=0 || rc=$?
        # 127: the interrupted wait has returned the exit code already.
        if ((rc == 127)); then rc=$earlier; fi
        if ((!signalled)); then break; fi
        earlier=$rc
    done
    if [[ -n "$keeper" ]]; then kill "$keeper" 2>/dev/null || true; fi
    last_words "$rc"
}

# unit_word TEXT: quotes it as one word of a systemd unit, which expands % and splits at blanks.
unit_word() {
    local text=$1
    text="${text//\\/\\\\}"
    text="${text//\"/\\\"}"
    text="${text//%/%%}"
    printf '"%s"' "$text"
}

unit_text() {
    local uid stop_timeout_s run_sh
    uid="$(id -u "$RUN_AS")"
    # Time for running jobs to end and for their output to be uploaded.
    stop_timeout_s=$((${LERULI_NODE_DRAIN_SECONDS:-120} + 120))
    # In a command, unlike in the other lines, systemd expands $ as well.
    run_sh="$(unit_word "$HERE/run.sh")"
    cat <<UNIT
# Made by run.sh --install-unit.
[Unit]
Description=Node of Leruli Queue
Wants=network-online.target user@$uid.service
After=network-online.target time-sync.target user@$uid.service
StartLimitIntervalSec=0

[Service]
Environment=$(unit_word "LERULI_NODE_USER=$RUN_AS")
Environment=$(unit_word "LERULI_NODE_ENV=$NODE_ENV")
ExecStart=/bin/bash ${run_sh//\$/\$\$}
Restart=on-failure
RestartSec=30
# Nobody but a person can put these right.
RestartPreventExitStatus=2 77 78
KillMode=mixed
TimeoutStopSec=$stop_timeout_s

[Install]
WantedBy=multi-user.target
UNIT
}

install_unit() {
    ((EUID == 0)) || die 2 "run.sh --install-unit is for root."
    has_systemd || die 1 "this machine does not run systemd." "Run it in screen instead: bash $HERE/run.sh"
    read_node_env
    NODE_ENV="$(readlink -f "$NODE_ENV")"
    unit_text >"$UNIT"
    systemctl daemon-reload
    systemctl enable --quiet leruli-node.service
    systemctl restart leruli-node.service
    say "systemd runs this node now and at every start of the machine"
    note "its log: journalctl -fu leruli-node; drain and stop: systemctl stop leruli-node"
}

remove_unit() {
    ((EUID == 0)) || die 2 "run.sh --remove-unit is for root."
    if [[ ! -e "$UNIT" ]]; then
        note "there is no $UNIT"
        return
    fi
    say "draining the node, then removing the unit"
    systemctl disable --now --quiet leruli-node.service
    rm -f "$UNIT"
    systemctl daemon-reload
}

(($# <= 1)) || die 2 "run.sh takes one option at most."
case "${1:-}" in
'') run ;;
--install-unit) install_unit ;;
--remove-unit) remove_unit ;;
-h | --help) usage ;;
*) die 2 "run.sh does not know '$1'." "It knows --install-unit, --remove-unit, --help." ;;
esac
