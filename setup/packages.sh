#!/usr/bin/env bash
# Installs missing system packages: setup/packages.sh NEED…, with NEED one of python, docker, images,
# nodes, bench, tests, lint, cc. On Debian and Ubuntu it uses apt, as root or with sudo. On other systems it
# prints the missing packages and stops.
#
# Reads from the environment: the variables of setup/lib.sh, LERULI_QUEUE_PYTHON (see setup/python.sh).
set -euo pipefail
# shellcheck source=setup/docker.sh
source "$(dirname "${BASH_SOURCE[0]}")/docker.sh"
PATH="$PATH:/usr/sbin:/sbin"

missing=()
have() { command -v "$1" >/dev/null; }
want() { missing+=("$@"); }
is_debian() { have apt-get && grep -Eqs '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release; }
in_apt() { [[ -n "$(apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ && $2 != "(none)"')" ]]; }

# Adds the packages of a Python that can make a virtual environment, if there is none.
want_python() {
    if "$ROOT/setup/python.sh" >/dev/null; then return; fi
    if [[ -n "${LERULI_QUEUE_PYTHON:-}" ]]; then
        die "LERULI_QUEUE_PYTHON=$LERULI_QUEUE_PYTHON is no Python 3.11 or newer with venv." \
            "Set it to such a Python, or unset it."
    fi
    local minor
    minor="$(/usr/bin/python3 -c 'import sys; print(sys.version_info[1])' 2>/dev/null || echo 0)"
    if ! is_debian || ((minor >= 11 || minor == 0)); then
        want python3 python3-venv
    else
        # Ubuntu may have a newer Python beside an older default one.
        want python3.11 python3.11-venv
    fi
}

for need in "$@"; do
    case "$need" in
    python) want_python ;;
    docker)
        if ! have docker || { ! docker_answers && ! have dockerd; }; then
            want docker.io
            # Since Debian 13 the command has its own package.
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
        # For systemd-analyze, which checks the units that the scripts write.
        have systemd-analyze || want systemd
        ;;
    bench)
        have slurmctld || want slurmctld
        have slurmd || want slurmd
        have sbatch || want slurm-client
        have munged || want munge
        [[ -e /usr/include/slurm/slurm.h ]] || want libslurm-dev
        have gcc || want gcc libc6-dev
        have findmnt || want util-linux
        ;;
    tests)
        # An image of the tests has nothing but it.
        [[ -e /bin/busybox ]] || want busybox-static
        ;;
    lint)
        have shellcheck || want shellcheck
        have git || want git
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
        "Install them by their names on this system (Python must be 3.11 or newer), then run this again."
fi
if ! can_be_root; then
    die "these packages are missing: ${missing[*]}." \
        "Installing them needs root or sudo. As root: apt-get install ${missing[*]}"
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
        "This release may be too old (Debian 12 and Ubuntu 22.04 are new enough). Add an apt source with" \
        "the package, or install it in another way, then run this again."
done
# apt's lists may name files that the mirror no longer has. So update the lists after a failure and retry.
install_missing() {
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -q
        --no-install-recommends "${missing[@]}")
    as_root "${install[@]}" || { as_root apt-get update -q && as_root "${install[@]}"; }
}
step "installing ${missing[*]}" install_missing
