# shellcheck shell=bash
# Functions of get-started.sh, run.sh and uninstall.sh. Sourced, never run.
#
# Reads from the environment:
#   NO_COLOR   when set, no colours

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# Debian and Ubuntu install dockerd-rootless.sh in a folder that is not on the PATH of users.
PATH="$PATH:/usr/sbin:/sbin:/usr/share/docker.io/contrib"
export HERE PATH

if [[ -t 1 && -z "${NO_COLOR:-}" ]]; then
    _bold=$'\e[1m' _red=$'\e[31m' _green=$'\e[32m' _yellow=$'\e[33m' _plain=$'\e[0m'
else
    _bold='' _red='' _green='' _yellow='' _plain=''
fi

# say announces a step; note prints a detail below it.
say() { printf '%s\n' "${_bold}==>${_plain} $*"; }
note() { printf '    %s\n' "$*"; }

# finding KIND SENTENCE: the result of a check. KIND is ok, warning or missing.
finding() {
    local colour=$_green
    case "$1" in warning) colour=$_yellow ;; missing) colour=$_red ;; esac
    printf '    %s%-7s%s %s\n' "$colour" "$1" "$_plain" "$2"
}

# die CODE SENTENCE…: what happened, why, what to do. Ends the script.
die() {
    local code=$1 line
    printf '%s\n' "${_red}error:${_plain} $2" >&2
    shift 2
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit "$code"
}

have() { command -v "$1" >/dev/null; }
has_systemd() { [[ -d /run/systemd/system ]]; }

# home_of USER
home_of() { getent passwd "$1" | cut -d : -f 6; }

# session_of USER: sets the variables of that user's login session, which `su -` does not set.
session_of() {
    local uid
    uid="$(id -u "$1")"
    export HOME USER XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS
    HOME="$(home_of "$1")"
    USER="$1"
    XDG_RUNTIME_DIR="/run/user/$uid"
    DBUS_SESSION_BUS_ADDRESS="unix:path=$XDG_RUNTIME_DIR/bus"
}

# as_user USER COMMAND…: runs a command as that user, called by root. It gets the session of that
# user, nothing else of root's environment, and cannot gain privileges.
as_user() (
    local name user=$1
    shift
    for name in $(compgen -e); do
        case "$name" in PATH | LANG | LC_ALL | TZ | TERM | NO_COLOR) ;; *) unset "$name" ;; esac
    done
    session_of "$user"
    cd /
    exec setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups "$@"
)

# lives FILE: whether the process with the id in the file lives. Not for root where others can write
# the file.
lives() {
    local pid
    [[ -f "$1" && ! -L "$1" ]] || return 1
    pid="$(head -c 20 "$1" 2>/dev/null)" && [[ "$pid" =~ ^[0-9]+$ && -d "/proc/$pid" ]]
}

# The folder of the node agent, below the home of its user.
AGENT_FOLDER=.local/share/leruli-node
export AGENT_FOLDER
