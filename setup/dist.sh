#!/usr/bin/env bash
# Builds dist/nomadrun.tar, with which a machine becomes a node without a network. It holds nomad, the
# task driver, the runner of shared containers, the node agent with its wheels for every Python of NODE_PYTHONS, the scripts, their README
# and the checksums.
#
# Reads from the environment: the variables of setup/lib.sh, setup/tools.sh and pip.
set -euo pipefail
# shellcheck source=setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

# Versions of CPython in the distributions from RHEL 9 (3.9) to Debian 13 (3.13).
NODE_PYTHONS=(3.9 3.10 3.11 3.12 3.13)
SCRIPTS=(get-started.sh run.sh uninstall.sh)
FILES=(lib.sh checks.sh rootless_docker.sh node.env.example README.md)

setup/venv.sh
setup/tools.sh nomad leruli-driver leruli-runner

# fetch_wheels FOLDER: fetches the pins of a node, checked by hash. Only a complete folder gets this name.
fetch_wheels() {
    local partial="$1.partial.$$"
    rm -rf "$partial"
    mkdir -p "$partial"
    "$VENV/bin/python" setup/wheels.py requirements/node.txt "$partial" "$(uname -m)" "${NODE_PYTHONS[@]}"
    "$VENV/bin/python" setup/wheels.py requirements/node-installer.txt "$partial" "$(uname -m)" \
        "${NODE_PYTHONS[0]}"
    rm -rf "$1"
    mv "$partial" "$1"
}

# build_agent FOLDER SOURCE: builds from a copy, as setuptools includes files of an earlier build.
build_agent() {
    mkdir "$2"
    cp -r node_setup/pyproject.toml node_setup/README.md node_setup/leruli_node "$2/"
    "$VENV/bin/python" -m pip --disable-pip-version-check wheel --quiet --no-deps \
        --no-build-isolation --wheel-dir "$1" "$2"
}

# pack FOLDER: writes the checksums, then the tar. Its files belong to root, as run.sh demands.
pack() {
    (cd "$1/nomadrun" && find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum) >"$1/sums"
    mv "$1/sums" "$1/nomadrun/SHA256SUMS"
    mkdir -p dist
    tar --create --file "dist/.nomadrun.tar.$$" --directory "$1" --owner=0 --group=0 --numeric-owner \
        --mode='u=rwX,go=rX' --sort=name nomadrun
    mv "dist/.nomadrun.tar.$$" dist/nomadrun.tar
}

wheels="$CACHE/wheels-$({
    cat requirements/node.txt requirements/node-installer.txt setup/wheels.py
    uname -m
    printf '%s\n' "${NODE_PYTHONS[@]}"
} | sha256sum | cut -c 1-12)"
if [[ ! -d "$wheels" ]]; then step "fetching the node agent's Python packages" fetch_wheels "$wheels"; fi

work="$(mktemp -d)"
trap 'rm -rf "$work" "$ROOT/dist/.nomadrun.tar.$$"' EXIT
package="$work/nomadrun"
mkdir -p "$package/wheels"
cp "$wheels"/*.whl "$package/wheels/"
step "building the node agent" build_agent "$package/wheels" "$work/source"
cp requirements/node.txt "$package/wheels/"
# Nomad, and programs built from it, may be distributed only with its licence.
cp --dereference "$VENV/bin/nomad" "$VENV/bin/leruli-driver" "$VENV/bin/leruli-runner" "$package/"
cp node_setup/nomad/LICENSE "$package/LICENSE-nomad"
cp LICENSE "$package/LICENSE"
(cd node_setup && cp "${SCRIPTS[@]}" "${FILES[@]}" "$package/")
chmod 755 "${SCRIPTS[@]/#/$package/}"
step "packing dist/nomadrun.tar" pack "$work"
note "$(du -h dist/nomadrun.tar | cut -f 1) in $(tar --list --file dist/nomadrun.tar | grep -c '[^/]$') files"
