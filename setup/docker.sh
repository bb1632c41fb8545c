#!/usr/bin/env bash
# Makes sure that a Docker daemon answers, and starts one if possible. Run it, or source it and call
# ensure_docker, which exports DOCKER_HOST for a rootless daemon.
#
# Reads from the environment:
#   DOCKER_HOST       address of the daemon (Docker's own variable); if set, no daemon is started
#   XDG_RUNTIME_DIR   folder that may hold the socket of a rootless daemon
set -euo pipefail
# shellcheck source=setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

DOCKERD_LOG=/var/log/leruli-queue-dockerd.log

docker_answers() { timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

_wait_for_docker() {
    local i
    for ((i = 0; i < 120; i++)); do
        if docker_answers; then return 0; fi
        sleep 0.5
    done
    return 1
}

# Starts dockerd without systemd, in its own session, so that it outlives this script. The lock keeps
# two scripts from starting two daemons; the daemon does not inherit it.
_start_dockerd() {
    (
        flock 9
        if docker_answers; then exit 0; fi
        # shellcheck disable=SC2016  # expanded by the inner shell
        as_root sh -c 'setsid dockerd >>"$1" 2>&1 </dev/null 9>&- &' sh "$DOCKERD_LOG"
        _wait_for_docker
    ) 9>"${TMPDIR:-/tmp}/leruli-queue-dockerd.$EUID.lock"
}

ensure_docker() {
    if docker_answers; then return 0; fi
    if [[ -n "${DOCKER_HOST:-}" ]]; then
        die "no Docker daemon answers at DOCKER_HOST=$DOCKER_HOST." \
            "Start it, or unset DOCKER_HOST to use this machine's own."
    fi
    if [[ -S "${XDG_RUNTIME_DIR:-/nowhere}/docker.sock" ]]; then
        export DOCKER_HOST="unix://$XDG_RUNTIME_DIR/docker.sock"
        if docker_answers; then return 0; fi
        unset DOCKER_HOST
    fi
    if ((EUID != 0)) && [[ -S /var/run/docker.sock && ! -w /var/run/docker.sock ]]; then
        die "you have no permission to use the Docker daemon (/var/run/docker.sock)." \
            "Add yourself to its group and log in again: sudo usermod -aG docker $(id -un)" \
            "or set up rootless Docker and set DOCKER_HOST."
    fi
    if ! can_be_root; then
        die "no Docker daemon answers, and only root could start one." \
            "Ask for 'systemctl start docker', or set up rootless Docker and set DOCKER_HOST."
    fi
    if [[ -d /run/systemd/system ]]; then
        say "no Docker daemon answers: systemctl start docker"
        as_root systemctl start docker || true
        _wait_for_docker || die "the Docker daemon did not start within 60 s." \
            "See 'journalctl -u docker', then run this again."
    else
        command -v dockerd >/dev/null || PATH="$PATH:/usr/sbin:/sbin"
        command -v dockerd >/dev/null || die "dockerd is not installed." \
            "On Debian and Ubuntu: apt-get install docker.io"
        say "no Docker daemon answers: starting dockerd (log: $DOCKERD_LOG)"
        _start_dockerd || die "dockerd did not answer within 60 s." \
            "See the end of $DOCKERD_LOG, then run this again."
        note "dockerd runs with pid $(cat /var/run/docker.pid 2>/dev/null || echo unknown)"
    fi
    docker_answers || die "the Docker daemon runs, but you have no permission to use it." \
        "Add yourself to its group and log in again: sudo usermod -aG docker $(id -un)"
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then ensure_docker; fi
