# shellcheck shell=bash
# Starts the rootless Docker of the user who runs it: by the user's systemd if there is one,
# otherwise as a process. Sourced by get-started.sh, after lib.sh and checks.sh (which sets PYTHON).
#
# Reads from the environment: no variables of its own.

_unit() { printf '%s' "$HOME/.config/systemd/user/docker.service"; }
_log() { printf '%s' "$HOME/$AGENT_FOLDER/dockerd.log"; }
_LOG_BYTES=10000000

docker_answers() {
    "$PYTHON" -I -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(5)
s.connect(sys.argv[1])
s.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
sys.exit(b" 200 " not in s.recv(64))' "$XDG_RUNTIME_DIR/docker.sock" 2>/dev/null
}

unit_text() {
    cat <<UNIT
# Made by get-started.sh of nomadrun.tar, and made again by it: change it with a drop-in.
[Unit]
Description=Rootless Docker of this node
StartLimitIntervalSec=60
StartLimitBurst=5

[Service]
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/share/docker.io/contrib
ExecStart=$(command -v dockerd-rootless.sh)
ExecReload=/bin/kill -s HUP \$MAINPID
TimeoutStartSec=0
Restart=always
RestartSec=2
LimitNOFILE=infinity
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
# Containers are in this unit's cgroup, and Docker divides it among them.
Delegate=yes
KillMode=mixed

[Install]
WantedBy=default.target
UNIT
}

describe_docker_setup() {
    if has_systemd; then
        note "write $(_unit), then: systemctl --user enable --now docker"
    else
        note "start $(command -v dockerd-rootless.sh), its log in $(_log)"
    fi
}

# Installs the user's unit, if there is systemd. A unit of another author stays.
set_up_docker() {
    has_systemd || return 0
    if [[ -e "$(_unit)" ]] && ! grep -q 'Made by get-started.sh' "$(_unit)"; then
        note "$(_unit) is not ours and stays as it is"
    elif [[ "$(cat "$(_unit)" 2>/dev/null)" != "$(unit_text)" ]]; then
        mkdir -p "$(dirname "$(_unit)")"
        unit_text >"$(_unit)"
        systemctl --user daemon-reload
    fi
    systemctl --user enable --quiet docker.service
}

# start_docker: returns when Docker answers; ends the script when it does not.
start_docker() {
    if docker_answers; then return 0; fi
    if has_systemd; then
        systemctl --user start docker.service || true
        _wait_for_docker true || die 1 "rootless Docker did not come up within 60 s." \
            "Why: journalctl --user -u docker (as $USER)"
    else
        _start_process
    fi
    docker_answers
}

# Under a lock, so that a second caller does not start a second Docker. The daemon does not hold the
# lock.
_start_process() {
    local log pid
    log="$(_log)"
    mkdir -p "$(dirname "$log")"
    exec 9>"$XDG_RUNTIME_DIR/leruli-docker.lock"
    flock 9
    if ! docker_answers; then
        # After a crash another process may have the id in this file; dockerd would then refuse to
        # start.
        rm -f "$XDG_RUNTIME_DIR/docker.pid"
        if [[ -f "$log" ]] && (($(stat -c %s "$log") > _LOG_BYTES)); then : >"$log"; fi
        setsid dockerd-rootless.sh >>"$log" 2>&1 </dev/null 9>&- &
        pid=$!
        _wait_for_docker "kill -0 $pid" || {
            tail -n 15 "$log" | sed 's/^/    | /' >&2
            die 1 "rootless Docker did not come up." "The whole log: $log"
        }
    fi
    exec 9>&-
}

# _wait_for_docker ALIVE: waits up to 60 s, or until the command ALIVE fails.
_wait_for_docker() {
    local i
    for ((i = 0; i < 300; i++)); do
        if docker_answers; then return 0; fi
        $1 2>/dev/null || return 1
        sleep 0.2
    done
    return 1
}

# Prints Docker's description of itself, and warns of a slow storage driver.
report_docker() {
    "$AGENT/venv/bin/python" -I - "unix://$XDG_RUNTIME_DIR/docker.sock" <<'PYTHON'
import sys

import docker

info = docker.DockerClient(sys.argv[1]).info()
print(f"    Docker {info['ServerVersion']} answers at {sys.argv[1]}, storage {info['Driver']}")
if info["Driver"] == "vfs":
    print("    warning: the storage driver vfs copies every image for every job; install fuse-overlayfs")
limits = {"memory": "MemoryLimit", "CPU": "CpuCfsQuota", "processes": "PidsLimit"}
absent = [name for name, key in limits.items() if not info.get(key)]
if absent:
    print(f"    warning: jobs are not held to their limits of {', '.join(absent)} (see the cgroups above)")
PYTHON
}
