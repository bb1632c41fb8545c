#!/usr/bin/env bash
# Prints the path of the Python to make the virtual environment with: 3.11 or newer, able to make
# one. Exit code 1 and no output when there is none.
#
# Reads from the environment:
#   LERULI_QUEUE_PYTHON   the Python to use, instead of looking on the PATH
set -euo pipefail

# A name on the PATH may be a pyenv shim for a version that is not enabled, so each is tried out.
usable() {
    "$1" -I -c 'import sys, venv, ensurepip
assert sys.version_info >= (3, 11)' >/dev/null 2>&1
}

if [[ -n "${LERULI_QUEUE_PYTHON:-}" ]]; then
    candidates=("$LERULI_QUEUE_PYTHON")
else
    candidates=(python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3)
fi
for python in "${candidates[@]}"; do
    if usable "$python"; then
        # The real program, not a shim and not an activated environment's.
        "$python" -I -c 'import os, sys
print(os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable))'
        exit 0
    fi
done
exit 1
