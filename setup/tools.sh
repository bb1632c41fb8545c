#!/usr/bin/env bash
# Puts nomad, leruli-driver (the task driver of jobs) and leruli-objects (the S3 server), or the
# tools whose names it is given, at .venv/bin: the ones named in the environment or found on the PATH
# when they are new enough, else built once by Go from the committed go.mod and go.sum into a cache
# outside the tree. The service looks beside its interpreter first, then on the PATH.
#
# Reads from the environment:
#   LERULI_QUEUE_NOMAD       a nomad >= 1.11 to use
#   LERULI_QUEUE_DRIVER      a leruli-driver >= 1.11 (the Nomad that it is built on) to use
#   LERULI_QUEUE_OBJECTS     a leruli-objects to use, with versitygw >= 1.8 in it
#   LERULI_QUEUE_NODESIM     a nodesim >= 1.11 to use; bench alone needs it, so it is built when named
#   LERULI_QUEUE_CACHE       where built programs are kept (see setup/lib.sh)
# Go's own settings (GOPROXY, GOMODCACHE, GOCACHE, …) are used as they are, but for those that
# would change what is built: GOFLAGS, GOWORK, GOOS, GOARCH, GOEXPERIMENT, CGO_ENABLED.
set -euo pipefail
# shellcheck source=setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# tool_settings NAME: how a tool is called, judged and built, as global variables.
tool_settings() {
    case "$1" in
    nomad)
        MINIMUM=1.11 VARIABLE=LERULI_QUEUE_NOMAD VERSION_COMMAND=version
        MODULE_DIR="$ROOT/node_setup/nomad"
        MODULE=github.com/hashicorp/nomad PACKAGE=github.com/hashicorp/nomad
        # The tag leaves Nomad's mock driver out; its docker driver's libraries need cgo.
        CGO=1 FLAGS=(-buildvcs=false -trimpath -tags release)
        ;;
    leruli-driver)
        # The task driver of jobs (docs/developers/nomad.md): ours, on what Nomad is built of.
        tool_settings nomad
        VARIABLE=LERULI_QUEUE_DRIVER VERSION_COMMAND=-version PACKAGE=./driver
        ;;
    leruli-objects)
        # The stack's S3 server: our own program around versitygw's gateway, whose version is its own.
        MINIMUM=1.8 VARIABLE=LERULI_QUEUE_OBJECTS VERSION_COMMAND=-version
        MODULE_DIR="$ROOT/setup/objectstore"
        MODULE=github.com/versity/versitygw PACKAGE=.
        CGO=0 FLAGS=(-buildvcs=false -trimpath)
        ;;
    nodesim)
        # The simulation's nodes (bench/README.md): our own program around Nomad's client.
        MINIMUM=1.11 VARIABLE=LERULI_QUEUE_NODESIM VERSION_COMMAND=-version
        MODULE_DIR="$ROOT/bench/nodesim"
        MODULE=github.com/hashicorp/nomad PACKAGE=.
        CGO=1 FLAGS=(-buildvcs=false -trimpath)
        ;;
    *) die "setup/tools.sh does not know the tool '$1'." \
        "It knows nomad, leruli-driver, leruli-objects and nodesim." ;;
    esac
    PINNED="$(awk -v module="$MODULE" '$1 == "require" && $2 == module { print substr($3, 2) }' \
        "$MODULE_DIR/go.mod")"
}

# version_of PROGRAM: the version that it says it has; nothing when it says none.
version_of() {
    timeout 20 "$1" "$VERSION_COMMAND" 2>/dev/null </dev/null |
        sed -nE 's/^[^0-9]*[Vv ]([0-9]+\.[0-9]+(\.[0-9]+)?).*/\1/p' | head -n 1
}

good_enough() {
    local version
    version="$(version_of "$1" || true)"
    [[ -n "$version" ]] && version_ge "$version" "$MINIMUM"
}

# on_path NAME: a good enough one on the PATH, links resolved, our own link left aside.
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

# find_go: sets GO_TOOLCHAIN, or ends the script with how to get Go.
find_go() {
    local needed have=''
    needed="$(awk '$1 == "go" { print $2 }' "$MODULE_DIR/go.mod")"
    if command -v go >/dev/null; then
        have="$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed -E 's/^go([0-9.]+).*/\1/')"
    fi
    if [[ -n "$have" ]] && version_ge "$have" "$needed"; then
        GO_TOOLCHAIN=local
    elif [[ -n "$have" ]] && version_ge "$have" 1.21; then
        note "Go $have is older than $needed: it will get itself a newer toolchain as a Go module"
        GO_TOOLCHAIN=auto
    else
        die "$TOOL must be built, which needs Go $needed or newer; found: ${have:-none}." \
            "Either install Go (Debian 12: golang-go from bookworm-backports; Debian 13, Ubuntu 24.04:" \
            "apt-get install golang-go; anywhere: the Go project's own download) and put it on the PATH," \
            "or let $VARIABLE name a $TOOL >= $MINIMUM. Then run this again."
    fi
}

# compile OUTPUT: in an environment in which nothing but the flags above decides the result.
compile() {
    cd "$MODULE_DIR"
    env -u GOOS -u GOARCH -u GOEXPERIMENT -u GOBIN -u GOROOT_FINAL GO111MODULE=on GOWORK=off \
        GOFLAGS=-mod=readonly GOTOOLCHAIN="$GO_TOOLCHAIN" CGO_ENABLED="$CGO" \
        nice go build "${FLAGS[@]}" -o "$1" "$PACKAGE"
}

# build NAME: sets BUILT to a program in the cache whose name says what it was built from.
build() {
    local hash partial
    hash="$({
        # Sources as well, where the program is our own.
        find "$MODULE_DIR" -maxdepth 1 \( -name 'go.*' -o -name '*.go' \) -print0 | sort -z |
            xargs -0 cat
        if [[ "$PACKAGE" == ./* ]]; then cat "$MODULE_DIR/$PACKAGE"/*.go; fi
        printf '%s\n' "${FLAGS[@]}" "$CGO" "$(uname -sm)"
    } | sha256sum | cut -c 1-12)"
    BUILT="$CACHE/bin/$1-$PINNED-$hash"
    if [[ -x "$BUILT" ]]; then return; fi
    mkdir -p "$CACHE/bin"
    # Two builds at once would only slow each other: the second waits and finds the work done.
    exec 9>"$CACHE/bin/.$1.lock"
    if ! flock -n 9; then
        note "another build of $1 is under way: waiting for it"
        flock 9
    fi
    if [[ ! -x "$BUILT" ]]; then
        "$ROOT/setup/packages.sh" go
        find_go
        if ((CGO)); then "$ROOT/setup/packages.sh" cc; fi
        # Only a finished program gets the name that is looked for.
        partial="$CACHE/bin/.$1.partial.$$"
        # shellcheck disable=SC2064  # expanded now: it is this file that goes
        trap "rm -f '$partial'" EXIT
        note "no $1 >= $MINIMUM is named by $VARIABLE or on the PATH: building one, which happens once"
        note "and takes 1 to 5 minutes; it is kept as $BUILT"
        step "building $1 $PINNED" compile "$partial"
        good_enough "$partial" || die "the $1 that was built does not say a version >= $MINIMUM." \
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
            "Let it name a newer one, or unset it to have one found or built."
        CHOSEN="$(readlink -f "$named")"
    elif ! CHOSEN="$(on_path "$1")"; then
        build "$1"
        CHOSEN="$BUILT"
    fi
}

mkdir -p "$VENV/bin"
for tool in "${@:-nomad leruli-driver leruli-objects}"; do
    # shellcheck disable=SC2086  # the default is three words
    for name in $tool; do
        choose "$name"
        ln -sfn "$CHOSEN" "$VENV/bin/.$name.new.$$"
        mv -Tf "$VENV/bin/.$name.new.$$" "$VENV/bin/$name"
        note "$name is $CHOSEN"
    done
done
