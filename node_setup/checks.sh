# shellcheck shell=bash
# The checks that get-started.sh runs before it changes anything. Each says "ok", warns, or says
# what is missing; the last two with root's commands. Sourced by get-started.sh, after lib.sh.
#
# Reads from the environment: the variables at the head of get-started.sh.

missing_count=0
root_commands=()
# Prints a command only once, also if several checks need it.
_root() {
    local command known
    for command in "$@"; do
        for known in "${root_commands[@]}"; do [[ "$known" == "$command" ]] && continue 2; done
        root_commands+=("$command")
    done
}
ok() { finding ok "$1"; }
# warn SENTENCE [ROOT'S COMMAND…]: the node works, but not well.
warn() {
    finding warning "$1"
    shift
    _root "$@"
}
# missing SENTENCE [ROOT'S COMMAND…]: the node would not work.
missing() {
    finding missing "$1"
    missing_count=$((missing_count + 1))
    shift
    _root "$@"
}

check_all() {
    check_package
    check_user
    check_python
    check_agent
    check_docker_packages
    check_rootful_docker
    check_subordinate_ids
    check_tun
    check_user_namespaces
    check_session
    check_cgroups
    check_folders
    check_clock
}

# install_command PACKAGE…: with Debian's names; users of other systems know theirs.
install_command() {
    if have apt-get; then
        printf 'apt-get update && apt-get install -y --no-install-recommends %s' "$*"
    else
        printf 'install what your system calls (Debian'\''s names): %s' "$*"
    fi
}

check_package() {
    if ! (cd "$HERE" && sha256sum --quiet --strict --check SHA256SUMS) >/dev/null 2>&1; then
        missing "the package in $HERE is damaged or was changed: it does not fit its SHA256SUMS" \
            "rm -r $HERE    # then unpack nomadrun.tar again"
    elif ! timeout 20 "$HERE/nomad" version >/dev/null 2>&1; then
        missing "$HERE/nomad does not run on this machine: it is for $(uname -m) with glibc 2.34 or \
newer (Debian 12, Ubuntu 22.04, RHEL 9); here is: $(ldd --version 2>&1 | head -n 1)"
    else
        ok "the package is whole"
    fi
}

check_user() {
    if [[ "$(id -u)" == 2013 && "$(id -un)" == leruli ]]; then
        ok "user leruli, uid 2013"
    else
        warn "you are $(id -un), uid $(id -u); nodes are alike when it is leruli, uid 2013"
    fi
    if [[ ! -d "$HOME" || ! -w "$HOME" ]]; then
        missing "the home folder $HOME is not there or not yours to write" \
            "install -d -o $USER -g $(id -gn) -m 700 $HOME"
    fi
}

_good_python() {
    "$1" -I -c 'import sys, venv, ssl, ctypes
sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

# find_python: sets PYTHON to a CPython that the package has wheels for.
find_python() {
    local name
    for name in ${LERULI_NODE_PYTHON:-/usr/bin/python3 python3 python3.13 python3.12 python3.11 \
        python3.10 python3.9}; do
        if _good_python "$name"; then
            PYTHON="$(command -v "$name")"
            return 0
        fi
    done
    return 1
}

check_python() {
    if find_python; then
        ok "$("$PYTHON" -V) ($PYTHON)"
    else
        missing "no CPython 3.9 to 3.13${LERULI_NODE_PYTHON:+ (LERULI_NODE_PYTHON=$LERULI_NODE_PYTHON)}" \
            "$(install_command python3)"
    fi
}

# made_from: identifies the package and the Python from which an agent is installed.
made_from() { { cat "$HERE/SHA256SUMS" && "$PYTHON" -I -c 'import sys; print(sys.version)'; } | sha256sum; }
is_current() { [[ "$(made_from)" == "$(cat "$AGENT/made-from" 2>/dev/null)" ]]; }

check_agent() {
    # The installed files stage running jobs out, so they must not change under a running agent.
    if [[ -n "${PYTHON:-}" && -e "$NODE_DIR/agent.lock" ]] && ! is_current &&
        ! flock --nonblock "$NODE_DIR/agent.lock" true; then
        local stop
        stop="kill $(cat "$NODE_DIR/agent.lock")    # or Ctrl-C where run.sh runs"
        if has_systemd; then stop='systemctl stop leruli-node'; fi
        missing "an older node agent runs: drain it before it is replaced" "$stop"
    fi
}

# Each program with its Debian package.
_programs=(dockerd:docker.io dockerd-rootless.sh:docker.io containerd:containerd runc:runc
    rootlesskit:rootlesskit slirp4netns:slirp4netns newuidmap:uidmap newgidmap:uidmap
    iptables:iptables ip:iproute2 nsenter:util-linux setpriv:util-linux flock:util-linux)

check_docker_packages() {
    local entry packages=()
    for entry in "${_programs[@]}"; do
        have "${entry%%:*}" || packages+=("${entry##*:}")
    done
    if ((${#packages[@]})); then
        mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
        missing "packages for rootless Docker: ${packages[*]}" "$(install_command "${packages[@]}")"
    else
        ok "the packages for rootless Docker"
    fi
}

check_rootful_docker() {
    local stop
    stop="kill $(cat /run/docker.pid 2>/dev/null || true)"
    if has_systemd; then stop='systemctl disable --now docker.service docker.socket'; fi
    if lives /run/docker.pid; then
        if [[ "${LERULI_NODE_ROOTFUL:-}" == allow ]]; then
            ok "a Docker that runs as root, which LERULI_NODE_ROOTFUL allows"
        else
            missing "a Docker runs as root and is in the way: its containers would take the cores and \
memory that this node offers (LERULI_NODE_ROOTFUL=allow keeps it)" "$stop"
        fi
    elif has_systemd && [[ "${LERULI_NODE_ROOTFUL:-}" != allow ]] &&
        systemctl is-enabled --quiet docker.service docker.socket 2>/dev/null; then
        missing "a Docker that runs as root would come back at the next start of the machine" "$stop"
    else
        ok "no Docker runs as root"
    fi
}

# subordinate_count FILE: the size of this user's largest range of ids.
subordinate_count() {
    awk -F : -v name="$(id -un)" -v uid="$(id -u)" \
        '($1 == name || $1 == uid) && $3 > most { most = $3 } END { print most + 0 }' "$1" 2>/dev/null ||
        echo 0
}

# free_subordinate_range: 65536 ids after all assigned ones.
free_subordinate_range() {
    cat /etc/subuid /etc/subgid 2>/dev/null | awk -F : '
        BEGIN { next_free = 100000 }
        $2 + $3 > next_free { next_free = $2 + $3 }
        END { printf "%d-%d", next_free, next_free + 65535 }'
}

check_subordinate_ids() {
    local range
    if (($(subordinate_count /etc/subuid) >= 65536 && $(subordinate_count /etc/subgid) >= 65536)); then
        ok "subordinate ids (/etc/subuid, /etc/subgid)"
    else
        range="$(free_subordinate_range)"
        missing "65536 subordinate user and group ids for $USER in /etc/subuid and /etc/subgid" \
            "usermod --add-subuids $range --add-subgids $range $USER"
    fi
    local program
    for program in newuidmap newgidmap; do
        if have $program && [[ ! -u "$(command -v $program)" ]] &&
            ! getcap "$(command -v $program)" 2>/dev/null | grep -q setuid; then
            missing "$program may not set ids: it is not setuid root" "chmod u+s $(command -v $program)"
        fi
    done
}

check_tun() {
    if [[ -r /dev/net/tun && -w /dev/net/tun ]]; then
        ok "/dev/net/tun"
    elif [[ -c /dev/net/tun ]]; then
        missing "/dev/net/tun may not be used by $USER" "chmod 666 /dev/net/tun"
    else
        missing "/dev/net/tun, the network of rootless Docker" \
            "modprobe tun; echo tun >/etc/modules-load.d/tun.conf" \
            "test -c /dev/net/tun || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; }" \
            "chmod 666 /dev/net/tun"
    fi
}

# setting_command NAME VALUE: sets a kernel setting for now and for later.
setting_command() {
    printf "sysctl -w %s=%s && echo '%s=%s' >>/etc/sysctl.d/90-leruli-node.conf" "$1" "$2" "$1" "$2"
}

# kernel_setting NAME: its value, or nothing if the kernel does not have it.
kernel_setting() { cat "/proc/sys/${1//./\/}" 2>/dev/null || true; }

check_user_namespaces() {
    local bad=0
    if [[ "$(kernel_setting user.max_user_namespaces)" == 0 ]]; then
        missing "user namespaces are switched off (user.max_user_namespaces)" \
            "$(setting_command user.max_user_namespaces 28633)"
        bad=1
    fi
    if [[ "$(kernel_setting kernel.unprivileged_userns_clone)" == 0 ]]; then
        missing "user namespaces are for root only (kernel.unprivileged_userns_clone)" \
            "$(setting_command kernel.unprivileged_userns_clone 1)"
        bad=1
    fi
    if [[ "$(kernel_setting kernel.apparmor_restrict_unprivileged_userns)" == 1 ]]; then
        # Ubuntu since 23.10: a program needs a profile that allows it.
        local program
        program="$(command -v rootlesskit || echo /usr/bin/rootlesskit)"
        if ! grep -qsF "$program" /etc/apparmor.d/*; then
            missing "AppArmor keeps rootlesskit from user namespaces" \
                "printf 'abi <abi/4.0>,\ninclude <tunables/global>\n\n$program flags=(unconfined) {\n  userns,\n}\n' >/etc/apparmor.d/leruli-rootlesskit" \
                "apparmor_parser --replace /etc/apparmor.d/leruli-rootlesskit"
        fi
    elif ((!bad)) && ! unshare --user --map-root-user true 2>/dev/null; then
        missing "this kernel does not let $USER make a user namespace (in a container? then it must be \
allowed from outside)"
        bad=1
    fi
    ((bad)) || ok "user namespaces"
}

check_session() {
    local uid
    uid="$(id -u)"
    if has_systemd && [[ ! -e "/var/lib/systemd/linger/$USER" ]]; then
        missing "the user's services end with its last login (lingering is off)" \
            "loginctl enable-linger $USER"
    elif [[ ! -d "$XDG_RUNTIME_DIR" || ! -O "$XDG_RUNTIME_DIR" || ! -w "$XDG_RUNTIME_DIR" ]]; then
        if has_systemd; then
            missing "$XDG_RUNTIME_DIR, which lingering should have made" "systemctl start user@$uid.service"
        else
            missing "the folder $XDG_RUNTIME_DIR (run.sh makes it again after a restart)" \
                "install -d -m 755 /run/user && install -d -m 700 -o $USER -g $(id -gn) $XDG_RUNTIME_DIR"
        fi
    elif has_systemd && ! systemctl --user show-environment >/dev/null 2>&1; then
        missing "the user's own systemd does not answer" "systemctl restart user@$uid.service"
    elif has_systemd && [[ ! -S "$XDG_RUNTIME_DIR/bus" ]]; then
        # Without the bus Docker cannot ask systemd for the cgroups of its containers.
        missing "the user's message bus ($XDG_RUNTIME_DIR/bus)" \
            "$(install_command dbus-user-session)" "systemctl restart user@$uid.service"
    else
        ok "$XDG_RUNTIME_DIR$(has_systemd && echo ', lingering')"
    fi
}

check_cgroups() {
    local file controllers controller absent=() uid
    uid="$(id -u)"
    if [[ ! -e /sys/fs/cgroup/cgroup.controllers ]]; then
        warn "cgroup v1: jobs cannot be held to their cores and memory. The kernel's command line needs \
systemd.unified_cgroup_hierarchy=1, then a restart of the machine"
        return
    fi
    if ! has_systemd; then
        warn "without systemd nothing delegates cgroups to $USER: jobs cannot be held to their cores and \
memory"
        return
    fi
    file="/sys/fs/cgroup/user.slice/user-$uid.slice/user@$uid.service/cgroup.controllers"
    controllers=" $(cat "$file" 2>/dev/null || true) "
    for controller in cpu memory pids; do
        [[ "$controllers" == *" $controller "* ]] || absent+=("$controller")
    done
    if ((${#absent[@]})); then
        missing "cgroup v2 without the controllers ${absent[*]} for $USER: jobs could not be held to their \
cores and memory" \
            "mkdir -p /etc/systemd/system/user@.service.d" \
            "printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >/etc/systemd/system/user@.service.d/delegate.conf" \
            "systemctl daemon-reload && systemctl restart user@$uid.service"
    else
        ok "cgroup v2 with cpu, memory, pids delegated"
    fi
}

# docker_data: the folder of rootless Docker's images and containers.
docker_data() {
    local configured
    configured="$(sed -nE 's/.*"data-root" *: *"([^"]+)".*/\1/p' \
        "$HOME/.config/docker/daemon.json" 2>/dev/null | head -n 1)"
    printf '%s' "${configured:-$HOME/.local/share/docker}"
}

# check_disk FOLDER WHAT_FOR ADVICE
check_disk() {
    local folder=$1 free
    while [[ ! -e "$folder" ]]; do folder="$(dirname "$folder")"; done
    free="$(df --output=avail -B 1M "$folder" | tail -n 1 | tr -d ' ')"
    if ((free < 1000)); then
        missing "the disk for $2 ($1) is full. $3"
    elif ((free < ${LERULI_NODE_MIN_GB:-20} * 1000)); then
        warn "only $((free / 1000)) GB are free for $2 ($1). $3"
    else
        ok "$((free / 1000)) GB free for $2"
    fi
}

check_folders() {
    if [[ ! -d "$NODE_DIR" || ! -w "$NODE_DIR" || ! -x "$NODE_DIR" ]]; then
        missing "the folder $NODE_DIR of $USER" \
            "mkdir -p $NODE_DIR && chown $USER:$(id -gn) $(dirname "$NODE_DIR") $NODE_DIR"
    else
        check_disk "$NODE_DIR" "jobs" "Make space, or let LERULI_NODE_DIR name a folder elsewhere."
    fi
    check_disk "$(docker_data)" "Docker's images" \
        "Make space, or name a folder elsewhere: {\"data-root\": \"/…\"} in ~/.config/docker/daemon.json."
}

check_clock() {
    # A package cannot be unpacked before it was built. A signature for S3 may be 15 minutes off.
    if (($(date +%s) + 86400 < $(stat -c %Y "$HERE/SHA256SUMS"))); then
        missing "the clock is wrong: it shows $(date '+%F %T'), before this package was built" \
            "date --set '…'    # then set up chrony or systemd-timesyncd"
    elif has_systemd && [[ "$(timedatectl show -p NTPSynchronized --value 2>/dev/null)" != yes ]]; then
        warn "the clock is not kept right by the network: S3 refuses a machine that is 15 minutes off" \
            "timedatectl set-ntp true"
    else
        ok "the clock shows $(date '+%F %T %Z')"
    fi
}
