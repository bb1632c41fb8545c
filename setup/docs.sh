#!/usr/bin/env bash
# `make docs`: build/docs, the site of docs/. A broken link or a page that the navigation lacks fails it.
#
# Reads from the environment: what setup/lib.sh does.
set -euo pipefail
# shellcheck source=setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

# The theme tells of its successor at each build; that is for us, not for each build.
NO_MKDOCS_2_WARNING=1 "$VENV/bin/mkdocs" build --strict --clean
if grep -rlE '<(script|link|img|iframe)[^>]+(src|href)="(https?:)?//' build/docs --include='*.html'; then
    die "these pages ask another host for something." "A reader without internet has to get all of it."
fi
