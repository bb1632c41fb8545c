#!/usr/bin/env bash
# Installs the system packages that the given needs lack: setup/packages.sh NEED…
# with NEED one of python, docker, images, nodes, bench, lint, cc, go. On Debian and Ubuntu by apt, as
# root or with sudo; elsewhere it says what to install and stops.
#
# Reads from the environment: what setup/lib.sh does, LERULI_QUEUE_PYTHON (see setup/python.sh).
set -euo pipefail
# shellcheck source=setup/docker.sh
source "$(dirname "${BASH_SOURCE[0]}")/docker.sh"
PATH="$PATH:/usr/sbin:/sbin"

missing=()
have() { command -v "$1" >/dev/null; }
want() { missing+=("$@"); }
is_debian() { have apt-get && grep -Eqs '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release; }
in_apt() { [[ -n "$(apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ && $2 != "(none)"')" ]]; }

# apt_version PACKAGE: the candidate's version up to the first letter or sign, without the epoch.
apt_version() {
    apt-cache policy "$1" 2>/dev/null |
        sed -nE 's/^ *Candidate: *([0-9]+:)?([0-9.]+).*/\2/p' | head -n 1
}

# Which packages would give a Python that can make a virtual environment?
want_python() {
    if "$ROOT/setup/python.sh" >/dev/null; then return; fi
    if [[ -n "${LERULI_QUEUE_PYTHON:-}" ]]; then
        die "LERULI_QUEUE_PYTHON=$LERULI_QUEUE_PYTHON is no Python 3.11 or newer with venv." \
            "Let it name one, or unset it."
    fi
    local minor
    minor="$(/usr/bin/python3 -c 'import sys; print(sys.version_info[1])' 2>/dev/null || echo 0)"
    if ! is_debian || ((minor >= 11 || minor == 0)); then
        want python3 python3-venv
    else
        # An Ubuntu whose own Python is older may carry a newer one beside it.
        want python3.11 python3.11-venv
    fi
}

for need in "$@"; do
    case "$need" in
    python) want_python ;;
    docker)
        if ! have docker || { ! docker_answers && ! have dockerd; }; then
            want docker.io
            # Since Debian 13 the command is a package of its own.
            if is_debian && in_apt docker-cli; then want docker-cli; fi
        fi
        ;;
    images)
        have mmdebstrap || want mmdebstrap
        if ((EUID != 0)) && ! have newuidmap; then want uidmap; fi
        ;;
    nodes)
        have rootlesskit || want rootlesskit
        have slirp4netns || want slirp4netns
        have newuidmap || want uidmap
        have iptables || want iptables
        have ip || want iproute2
        # Its systemd-analyze judges the units that are written.
        have systemd-analyze || want systemd
        ;;
    bench)
        have slurmctld || want slurmctld
        have sbatch || want slurm-client
        have munged || want munge
        [[ -e /usr/include/slurm/slurm.h ]] || want libslurm-dev
        have gcc || want gcc libc6-dev
        have findmnt || want util-linux
        ;;
    lint)
        have shellcheck || want shellcheck
        have git || want git
        ;;
    go)
        # From 1.21 on Go gets itself a newer toolchain; an older one would be of no use.
        if ! have go && is_debian && version_ge "$(apt_version golang-go)" 1.21; then
            want golang-go
        fi
        ;;
    cc) have gcc || want gcc libc6-dev ;;
    *) die "setup/packages.sh does not know the need '$need'." ;;
    esac
done
have flock || want util-linux

if ((${#missing[@]} == 0)); then exit 0; fi
if ! is_debian; then
    die "these are missing: ${missing[*]} (Debian's names)." \
        "This is not Debian or Ubuntu, so they are not installed for you." \
        "Install what they are called here (Python must be 3.11 or newer), then run this again."
fi
if ! can_be_root; then
    die "these packages are missing: ${missing[*]}." \
        "Installing them takes root or sudo. As root: apt-get install ${missing[*]}"
fi

say "these packages are missing and will be installed by apt: ${missing[*]}"
if ((EUID != 0)); then
    note "sudo may ask for your password"
    sudo -v
fi
all_known() {
    local package
    for package in "${missing[@]}"; do in_apt "$package" || return 1; done
}
if ! all_known; then step "updating apt's lists" as_root apt-get update -q; fi
for package in "${missing[@]}"; do
    in_apt "$package" || die "apt knows no package $package." \
        "This release may be too old (Debian 12 and Ubuntu 22.04 are not); add an apt source that" \
        "has it, or install it by other means, then run this again."
done
# A list older than the mirror names files that are gone: then once more with fresh lists.
install_missing() {
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -q
        --no-install-recommends "${missing[@]}")
    as_root "${install[@]}" || { as_root apt-get update -q && as_root "${install[@]}"; }
}
step "installing ${missing[*]}" install_missing
