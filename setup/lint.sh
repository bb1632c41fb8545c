#!/usr/bin/env bash
# Every static check of the repository; all of them run, also when one has found something.
#
# Reads from the environment: nothing of its own.
set -uo pipefail
# shellcheck source=setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT" || exit 1

failed=()
check() {
    local name=$1
    shift
    say "$name"
    "$@" || failed+=("$name")
}

# Bash scripts, also those without the ending .sh, tracked or new.
scripts() {
    local file
    git ls-files -co --exclude-standard | while read -r file; do
        [[ -f "$file" && ! -L "$file" ]] || continue
        case "$file" in
        *.sh | *.recipe) echo "$file" ;;
        *) if head -c 64 "$file" | head -n 1 | grep -Eqa '^#!.*\b(ba)?sh$'; then echo "$file"; fi ;;
        esac
    done
}
shell_scripts() { scripts | tr '\n' '\0' | xargs -0 shellcheck -x -P "$ROOT"; }

# From tests/, whose files are modules of their own name; with the client, which some of them import.
test_calls() (
    cd tests && MYPYPATH=..:../cli "$VENV/bin/mypy" --config-file mypy.ini \
        integration/service/*.py unit/service/*.py states_world.py e2e/test_reconciling.py
)

# One configuration for the whole tree, whatever a distribution's own pyproject.toml says.
check "ruff check" "$VENV/bin/ruff" check --config ruff.toml .
check "ruff format" "$VENV/bin/ruff" format --check --config ruff.toml .
check "mypy: service, bench and soak" "$VENV/bin/mypy" --config-file mypy.ini -p leruli_queue -p bench -p soak
# Found by path: in the service's run node_setup/nomad, which holds Go's files, would hide python-nomad.
check "mypy: client and node agent" env MYPYPATH=cli:node_setup "$VENV/bin/mypy" \
    --config-file mypy.ini --python-version 3.10 -p leruli -p leruli_node
check "mypy: tests of the service" test_calls
check "import-linter" "$VENV/bin/lint-imports" --config .importlinter --no-cache
check "shellcheck" shell_scripts
check "documents" setup/docs.sh

if ((${#failed[@]})); then
    printf -v list '%s, ' "${failed[@]}"
    die "these checks found something: ${list%, }." \
        "Above is what. 'make format' settles what ruff can settle by itself."
fi
say "all checks passed"
