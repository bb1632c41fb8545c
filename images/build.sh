#!/usr/bin/env bash
# Makes container images from Debian's packages: images/build.sh NAME…, where images/NAME.recipe
# says what goes in. What Docker already has from the same recipe is left alone.
#
# The packages come from this machine's own apt sources, by mmdebstrap; nothing else is fetched.
# As an ordinary user mmdebstrap works in a user namespace (package uidmap).
#
# Reads from the environment: what setup/lib.sh and setup/docker.sh do.
#
# A recipe is a bash file that sets
#   IMAGE        name:version of the image
#   BASE         another recipe's name, of whose image this one is a copy with other settings; or
#   PACKAGES     Debian packages to install,
#   VARIANT      and mmdebstrap's variant (default essential; extract runs no package scripts)
#   MUST_BE      optional: "package version-prefix"; any other version is refused
#   HOOK         optional: a shell command that changes the new root, which it gets as $1
#   CHANGES      settings of the image, as in a Dockerfile
#   CHECK        a shell command that must succeed in the new image
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=setup/docker.sh
source "$HERE/../setup/docker.sh"

LABEL=leruli-queue.recipe
# Raise it when what this script makes of a recipe changes: every image is then made again.
EDITION=1

# This machine's apt sources that are of its own release, as arguments for mmdebstrap.
machine_sources() {
    local file release=$1
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
        /etc/apt/sources.list.d/*.sources; do
        if [[ -f "$file" ]] && grep -qw -- "$release" "$file"; then printf '%s\n' "$file"; fi
    done
}

# load_recipe NAME: the recipe's settings as global variables.
load_recipe() {
    IMAGE='' BASE='' VARIANT=essential MUST_BE='' HOOK=true CHECK=true
    PACKAGES=() CHANGES=()
    local file="$HERE/$1.recipe"
    if [[ ! -f "$file" ]]; then
        local known
        known="$(cd "$HERE" && printf '%s ' *.recipe)"
        die "there is no recipe for an image '$1'." "Known are: ${known//.recipe/}"
    fi
    # shellcheck source=/dev/null
    source "$file"
}

# recipe_hash NAME: changes with the recipe, with its base's, and with EDITION.
recipe_hash() {
    local files=("$HERE/$1.recipe")
    if [[ -n "$BASE" ]]; then files+=("$HERE/$BASE.recipe"); fi
    { printf '%s\n' "$EDITION" && cat "${files[@]}"; } | sha256sum | cut -c 1-16
}

# up_to_date HASH: does Docker have IMAGE from this very recipe?
up_to_date() {
    [[ "$(docker image inspect -f "{{index .Config.Labels \"$LABEL\"}}" "$IMAGE" 2>/dev/null)" == "$1" ]]
}

# make_root TAR: a root file system with PACKAGES, as a tar file.
make_root() {
    local release sources stage=customize prepare shrink include
    # shellcheck source=/dev/null
    release="$(source /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")"
    mapfile -t sources < <(machine_sources "$release")
    ((${#sources[@]})) || {
        echo "no apt source of the release '$release' in /etc/apt: mmdebstrap has nothing to read"
        return 1
    }
    # mmdebstrap ends an `extract` before it comes to the hooks called customize.
    if [[ "$VARIANT" == extract ]]; then stage=extract; fi
    # $1 in the hooks is the new root.
    # shellcheck disable=SC2016
    prepare='mkdir -p "$1/tmp" "$1/rundir" && chmod 1777 "$1/tmp" "$1/rundir"'
    # Nobody installs or reads in a container: apt's lists, caches and byte code stay out.
    # shellcheck disable=SC2016
    shrink='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/cache/debconf/* \
        "$1"/var/log/* "$1"/usr/share/doc-base "$1"/etc/apt/sources.list.d/* \
        "$1"/etc/apt/sources.list'
    include="$(IFS=, && printf '%s' "${PACKAGES[*]}")"
    nice mmdebstrap --variant="$VARIANT" --include="$include" \
        --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/lintian/*' \
        "--$stage-hook=$prepare" "--$stage-hook=$(version_hook)" \
        "--$stage-hook=$HOOK" "--$stage-hook=$shrink" \
        --format=tar "$release" "$1" "${sources[@]}"
}

# A hook that refuses another version of the program than the image's name promises.
version_hook() {
    if [[ -z "$MUST_BE" ]]; then
        printf 'true'
        return
    fi
    # shellcheck disable=SC2016
    printf 'have="$(dpkg-query --admindir="$1/var/lib/dpkg" -f "\${Version}" -W %s)"; case "$have" in
        %s*) ;;
        *) echo "this machine'"'"'s release has %s $have, and %s needs %s"; exit 1 ;; esac' \
        "${MUST_BE% *}" "${MUST_BE#* }" "${MUST_BE% *}" "$IMAGE" "${MUST_BE#* }"
}

# import_image TAR HASH: IMAGE from a root file system.
import_image() {
    local change args=()
    for change in "${CHANGES[@]}" "LABEL $LABEL=$2"; do args+=(--change "$change"); done
    docker import "${args[@]}" "$1" "$IMAGE"
}

# derive_image BASE_IMAGE HASH: IMAGE as a copy of another with other settings.
derive_image() {
    local change container args=()
    for change in "${CHANGES[@]}" "LABEL $LABEL=$2"; do args+=(--change "$change"); done
    container="$(docker create "$1" true)"
    docker commit "${args[@]}" "$container" "$IMAGE" || {
        docker rm "$container"
        return 1
    }
    docker rm "$container"
}

check_image() { docker run --rm --network none --security-opt no-new-privileges "$IMAGE" sh -c "$CHECK"; }

# build NAME: one image, when Docker does not have it already.
build() {
    local name=$1 hash base_image tar replaced
    load_recipe "$name"
    if [[ -n "$BASE" ]]; then
        build "$BASE"
        base_image=$IMAGE
        load_recipe "$name"
    fi
    hash="$(recipe_hash "$name")"
    if up_to_date "$hash"; then
        note "image $IMAGE is there"
        return
    fi
    replaced="$(docker image inspect -f '{{.Id}}' "$IMAGE" 2>/dev/null || true)"
    if [[ -n "$BASE" ]]; then
        step "deriving the image $IMAGE" derive_image "$base_image" "$hash"
    else
        tar="$WORK/$name.tar"
        step "making the image $IMAGE from Debian's packages" make_root "$tar"
        step "loading the image $IMAGE into Docker" import_image "$tar" "$hash"
        rm -f "$tar"
    fi
    step "checking the image $IMAGE" check_image
    # The image that had the name before is of no use; Docker keeps it if a container still needs it.
    if [[ -n "$replaced" ]]; then docker image rm "$replaced" >/dev/null 2>&1 || true; fi
}

if (($# == 0)); then die "which images? Usage: images/build.sh NAME…"; fi
command -v mmdebstrap >/dev/null || die "mmdebstrap is not installed." \
    "On Debian and Ubuntu: apt-get install mmdebstrap"
ensure_docker
mkdir -p "$CACHE"
exec 9>"$CACHE/images.lock"
flock -n 9 || {
    note "another images/build.sh is at work: waiting for it"
    flock 9
}
WORK="$(mktemp -d "$CACHE/image.XXXXXX")"
trap 'rm -rf "$WORK"' EXIT
for name in "$@"; do build "$name"; done
