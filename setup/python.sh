#!/usr/bin/env bash
# Prints the path of the Python for the virtual environment: 3.11 or newer, with the module venv. Without
# such a Python it prints nothing and exits with 1.
#
# Reads from the environment:
#   LERULI_QUEUE_PYTHON   the Python to use, instead of one from the PATH
set -euo pipefail

# Try each name, as it may be a pyenv shim for a version that is not enabled.
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
        # Print the real program, neither a shim nor one of an activated environment.
        "$python" -I -c 'import os, sys
print(os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable))'
        exit 0
    fi
done
exit 1
