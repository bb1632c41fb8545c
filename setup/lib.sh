# shellcheck shell=bash
# Messages, timing and waiting for the scripts of this folder. Sourced, never run.
#
# Reads from the environment:
#   LERULI_QUEUE_CACHE   folder for built programs and logs
#                        (default ${XDG_CACHE_HOME:-$HOME/.cache}/leruli-queue)
#   LERULI_QUEUE_STEPS   a file to which `step` adds one line "seconds<TAB>name" a step
#   NO_COLOR             when set, no colours

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CACHE="${LERULI_QUEUE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/leruli-queue}"
VENV="$ROOT/.venv"
export ROOT CACHE VENV

if [[ -t 1 && -z "${NO_COLOR:-}" ]]; then
    _bold=$'\e[1m' _red=$'\e[31m' _green=$'\e[32m' _plain=$'\e[0m'
else
    _bold='' _red='' _green='' _plain=''
fi

# What is about to be done.
say() { printf '%s\n' "${_bold}==>${_plain} $*"; }

# A detail below it.
note() { printf '    %s\n' "$*"; }

# What happened, why, what to do (each a sentence; the last two may be missing). Ends the script.
die() {
    printf '%s\n' "${_red}error:${_plain} $1" >&2
    shift
    local line
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

# elapsed SECONDS: "2 min 10 s".
elapsed() {
    if (($1 >= 60)); then printf '%d min %d s' "$(($1 / 60))" "$(($1 % 60))"; else printf '%d s' "$1"; fi
}

# version_ge A B: is version A (digits and dots) at least B?
version_ge() { [[ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" == "$2" ]]; }

# as_root COMMAND…: as root, by sudo where needed. Ask can_be_root first.
as_root() {
    if ((EUID == 0)); then "$@"; else sudo -- "$@"; fi
}
can_be_root() { ((EUID == 0)) || command -v sudo >/dev/null; }

# _heartbeat PID NAME: until PID ends, a spinner on a terminal, else a line every 30 seconds.
_heartbeat() {
    local pid=$1 name=$2 began=$SECONDS next=30 marks="|/-\\" turn=0
    while kill -0 "$pid" 2>/dev/null; do
        if [[ -t 1 ]]; then
            printf '\r    %s %s, %s ' "${marks:turn++%4:1}" "$name" "$(elapsed $((SECONDS - began)))"
        elif ((SECONDS - began >= next)); then
            note "still $name, $(elapsed $((SECONDS - began)))"
            next=$((next + 30))
        fi
        sleep 0.2
    done
    if [[ -t 1 ]]; then printf '\r\e[K'; fi
}

# step NAME COMMAND…: runs COMMAND with its output in a log, shows that it lives, tells how long it
# took. NAME reads well after "still": "building Nomad". Ends the script when COMMAND fails.
step() {
    local name=$1 began=$SECONDS log rc=0
    shift
    mkdir -p "$CACHE/logs"
    log="$CACHE/logs/${name//[^A-Za-z0-9._-]/-}.$$.log"
    say "$name"
    # In a process group of its own, so that Ctrl-C ends all that was started, not only the wait.
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    _step_pid=$!
    set +m
    trap 'kill -TERM -- "-$_step_pid" 2>/dev/null; exit 130' INT
    trap 'kill -TERM -- "-$_step_pid" 2>/dev/null; exit 143' TERM
    _heartbeat "$_step_pid" "$name"
    wait "$_step_pid" || rc=$?
    trap - INT TERM
    if ((rc != 0)); then
        tail -n 25 "$log" | sed 's/^/    | /' >&2
        die "$name failed with exit code $rc after $(elapsed $((SECONDS - began)))." \
            "The whole output is in $log."
    fi
    rm -f "$log"
    step_done "$name" "$((SECONDS - began))"
}

# step_done NAME SECONDS: tells and notes how long a step took.
step_done() {
    note "${_green}done${_plain} in $(elapsed "$2")"
    if [[ -n "${LERULI_QUEUE_STEPS:-}" ]]; then printf '%s\t%s\n' "$2" "$1" >>"$LERULI_QUEUE_STEPS"; fi
}
