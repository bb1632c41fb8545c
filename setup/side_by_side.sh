#!/usr/bin/env bash
# Runs commands side by side: setup/side_by_side.sh COMMAND…, each one word. The output of a command is
# printed in one piece at its end, so outputs do not mix. All commands run to their end. The exit code is 1
# if one of them failed.
#
# Reads from the environment: the variables of setup/lib.sh.
set -euo pipefail
# shellcheck source=setup/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

logs="$(mktemp -d)"
pids=()
# After Ctrl-C, or at the end of a CI job, each command can first end its own processes.
end_all() {
    local pid
    for pid in "${pids[@]}"; do kill -INT -- "-$pid" 2>/dev/null || true; done
    wait || true
    # Background processes of the shell ignore INT.
    for pid in "${pids[@]}"; do kill -KILL -- "-$pid" 2>/dev/null || true; done
}
trap 'end_all; exit 130' INT
trap 'end_all; exit 143' TERM
trap 'rm -rf "$logs"' EXIT

began=$SECONDS
names=("$@")
# Each command gets its own process group, so that a signal reaches all of its processes.
set -m
for number in "${!names[@]}"; do
    say "${names[number]} (beside the others; its output comes at its end)"
    bash -c "${names[number]}" >"$logs/$number" 2>&1 </dev/null &
    pids+=("$!")
done
set +m

failed=()
next=60
left=("${!names[@]}")
while ((${#left[@]})); do
    sleep 0.5
    still=()
    for number in "${left[@]}"; do
        if kill -0 "${pids[number]}" 2>/dev/null; then
            still+=("$number")
            continue
        fi
        rc=0
        wait "${pids[number]}" || rc=$?
        say "${names[number]}: exit code $rc after $(elapsed $((SECONDS - began)))"
        cat "$logs/$number"
        if ((rc)); then failed+=("${names[number]}"); fi
    done
    left=("${still[@]}")
    if ((SECONDS - began >= next && ${#left[@]})); then
        for number in "${left[@]}"; do
            note "still ${names[number]}, $(elapsed $((SECONDS - began))): $(tail -n 1 "$logs/$number")"
        done
        next=$((next + 60))
    fi
done
if ((${#failed[@]})); then
    printf -v list '%s, ' "${failed[@]}"
    die "failed: ${list%, }." "The output of each is above."
fi
