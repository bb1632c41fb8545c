#!/usr/bin/env bash
# Runs every static check of the repository, even after one of them has failed.
#
# Reads from the environment: the variables of setup/lib.sh.
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

# Prints all bash scripts, tracked or new, also those without the suffix .sh.
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

# In tests/ and tests/support a file is a module of its own name. Some of them import the client.
test_calls() (
    cd tests && MYPYPATH=support:..:../cli "$VENV/bin/mypy" --config-file mypy.ini \
        integration/service/*.py unit/service/*.py support/states_world.py e2e/test_reconciling.py
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
    die "these checks failed: ${list%, }." \
        "Above is what. 'make format' settles what ruff can settle by itself."
fi
say "all checks passed"
