#!/usr/bin/env bash
# Makes container images from Debian's packages: images/build.sh NAME…, by the recipe images/NAME.recipe.
# An image that Docker already has from the same recipe is not made again.
#
# mmdebstrap gets the packages from the apt sources of this machine; nothing else is fetched. For an
# ordinary user mmdebstrap works in a user namespace (package uidmap).
#
# Reads from the environment: what setup/lib.sh and setup/docker.sh do.
#
# A recipe is a bash file that sets
#   IMAGE        name:version of the image
#   BASE         name of another recipe: this image is a copy of that one with other settings; or
#   PACKAGES     Debian packages to install,
#   VARIANT      and mmdebstrap's variant (default essential; extract runs no package scripts)
#   MUST_BE      optional: "package version-prefix"; any other version is refused
#   HOOK         optional: a shell command that changes the new root file system, whose path is $1
#   CHANGES      settings of the image, as in a Dockerfile
#   CHECK        a shell command that must succeed in the new image
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=setup/docker.sh
source "$HERE/../setup/docker.sh"

LABEL=leruli-queue.recipe
# Increase this number after a change of this script that affects images: then all are made again.
EDITION=1

# Prints the apt sources of this machine's release, as arguments for mmdebstrap.
machine_sources() {
    local file release=$1
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
        /etc/apt/sources.list.d/*.sources; do
        if [[ -f "$file" ]] && grep -qw -- "$release" "$file"; then printf '%s\n' "$file"; fi
    done
}

# load_recipe NAME: sets the recipe's settings as global variables.
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

# recipe_hash NAME: prints a hash of the recipe, its base's recipe, and EDITION.
recipe_hash() {
    local files=("$HERE/$1.recipe")
    if [[ -n "$BASE" ]]; then files+=("$HERE/$BASE.recipe"); fi
    { printf '%s\n' "$EDITION" && cat "${files[@]}"; } | sha256sum | cut -c 1-16
}

# up_to_date HASH: succeeds if Docker has IMAGE from this version of the recipe.
up_to_date() {
    [[ "$(docker image inspect -f "{{index .Config.Labels \"$LABEL\"}}" "$IMAGE" 2>/dev/null)" == "$1" ]]
}

# make_root TAR: makes a root file system with PACKAGES as a tar file.
make_root() {
    local release sources stage=customize prepare shrink include
    # shellcheck source=/dev/null
    release="$(source /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")"
    mapfile -t sources < <(machine_sources "$release")
    ((${#sources[@]})) || {
        echo "/etc/apt has no apt source of the release '$release', which mmdebstrap needs"
        return 1
    }
    # With `extract` mmdebstrap runs no customize hooks.
    if [[ "$VARIANT" == extract ]]; then stage=extract; fi
    # In the hooks $1 is the new root file system.
    # shellcheck disable=SC2016
    prepare='mkdir -p "$1/tmp" "$1/rundir" && chmod 1777 "$1/tmp" "$1/rundir"'
    # Containers need no apt lists, caches and byte code.
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

# Prints a hook that refuses another version of the program than MUST_BE.
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

# import_image TAR HASH: makes IMAGE from a root file system.
import_image() {
    local change args=()
    for change in "${CHANGES[@]}" "LABEL $LABEL=$2"; do args+=(--change "$change"); done
    docker import "${args[@]}" "$1" "$IMAGE"
}

# derive_image BASE_IMAGE HASH: makes IMAGE as a copy of another image, with other settings.
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

# build NAME: makes one image unless Docker already has it.
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
    # Remove the previous image of this name. Docker keeps it while a container needs it.
    if [[ -n "$replaced" ]]; then docker image rm "$replaced" >/dev/null 2>&1 || true; fi
}

if (($# == 0)); then die "no image is named. Usage: images/build.sh NAME…"; fi
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
