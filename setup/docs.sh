#!/usr/bin/env bash
# `make docs`: builds the site of docs/ in build/docs. It fails on a broken link, and on a page that is
# not in the navigation.
#
# Reads from the environment: the variables of setup/lib.sh.
set -euo pipefail
# shellcheck source=setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

# The theme advertises its successor at each build.
NO_MKDOCS_2_WARNING=1 "$VENV/bin/mkdocs" build --strict --clean
if grep -rlE '<(script|link|img|iframe)[^>]+(src|href)="(https?:)?//' build/docs --include='*.html'; then
    die "these pages load something from another host." "The site must work without internet."
fi
