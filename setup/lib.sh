# shellcheck shell=bash
# Functions for messages and timing in the scripts of this folder. Source it; do not run it.
#
# Reads from the environment:
#   LERULI_QUEUE_CACHE   folder for built programs and logs
#                        (default ${XDG_CACHE_HOME:-$HOME/.cache}/leruli-queue)
#   LERULI_QUEUE_STEPS   a file to which `step` adds one line "seconds<TAB>name" per step
#   NO_COLOR             if set, no colours are used

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CACHE="${LERULI_QUEUE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/leruli-queue}"
VENV="$ROOT/.venv"
export ROOT CACHE VENV

if [[ -t 1 && -z "${NO_COLOR:-}" ]]; then
    _bold=$'\e[1m' _red=$'\e[31m' _green=$'\e[32m' _plain=$'\e[0m'
else
    _bold='' _red='' _green='' _plain=''
fi

# say TEXT…: prints which step begins.
say() { printf '%s\n' "${_bold}==>${_plain} $*"; }

# note TEXT…: prints a detail below a step.
note() { printf '    %s\n' "$*"; }

# die WHAT [WHY] [REMEDY]: prints what happened, why, and what to do (a sentence each). Ends the script.
die() {
    printf '%s\n' "${_red}error:${_plain} $1" >&2
    shift
    local line
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

# elapsed SECONDS: prints a duration, for example "2 min 10 s".
elapsed() {
    if (($1 >= 60)); then printf '%d min %d s' "$(($1 / 60))" "$(($1 % 60))"; else printf '%d s' "$1"; fi
}

# version_ge A B: succeeds if version A (digits and dots) is at least B.
version_ge() { [[ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" == "$2" ]]; }

# as_root COMMAND…: runs a command as root, by sudo if needed. Check can_be_root before.
as_root() {
    if ((EUID == 0)); then "$@"; else sudo -- "$@"; fi
}
can_be_root() { ((EUID == 0)) || command -v sudo >/dev/null; }

# _heartbeat PID NAME: until PID ends, shows a spinner on a terminal, else a line every 30 seconds.
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

# step NAME COMMAND…: runs COMMAND with its output in a log, shows that it still runs, then prints how
# long it took. NAME must read well after "still": "building Nomad". A failure ends the script.
step() {
    local name=$1 began=$SECONDS log rc=0
    shift
    mkdir -p "$CACHE/logs"
    log="$CACHE/logs/${name//[^A-Za-z0-9._-]/-}.$$.log"
    say "$name"
    # In its own process group, so that Ctrl-C ends COMMAND and its children, not only the wait.
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

# step_done NAME SECONDS: prints and records how long a step took.
step_done() {
    note "${_green}done${_plain} in $(elapsed "$2")"
    if [[ -n "${LERULI_QUEUE_STEPS:-}" ]]; then printf '%s\t%s\n' "$2" "$1" >>"$LERULI_QUEUE_STEPS"; fi
}
