"""The script that is a container's first process, and the control folder that holds it.

The user's program can write to all of the control folder. script_notes.py therefore reads it with
care.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from leruli_node.container.job_environment import job_environment
from leruli_node.model import AttemptId, StartGrant

MAIN_SCRIPT = r"""#!/bin/sh
# The first process of a job's container. It runs the job once, and only once.
if [ -z "${BASH_VERSION:-}" ] && command -v bash >/dev/null 2>&1; then exec bash /leruli/main.sh; fi
@environment@
if ! mkdir /leruli/started 2>/dev/null; then
    : >/leruli/refused
    exit 122
fi
on_term() {
    interrupted=1
    # Once: the agent and Nomad may both send it, and a job may take a second TERM for an order to
    # end at once.
    [ -e /leruli/terminated ] && return
    : >/leruli/terminated
    kill -s TERM -- -1 2>/dev/null
}
# Docker ends a container by the signal that its image names, TERM if it names none.
trap on_term TERM INT QUIT HUP
cd /rundir || exit 122
if [ -n "${BASH_VERSION:-}" ]; then shell=bash; else shell=sh; fi
# A process group of the job's own: a job that ends its group (`kill 0`) must not seem to be
# stopped from outside.
own=
if [ -n "${BASH_VERSION:-}" ]; then
    set -m
elif command -v setsid >/dev/null 2>&1; then
    own=setsid
fi
$own "$shell" run.sh </dev/null >joblog.txt 2>joberr.txt &
job=$!
[ -n "$own" ] || set +m 2>/dev/null
code=
while :; do
    interrupted=0
    wait "$job"
    now=$?
    # A signal ends `wait` early; 127 afterwards means that the job's own code was told before.
    if [ "$now" != 127 ] || [ -z "$code" ]; then code=$now; fi
    [ "$interrupted" = 1 ] || break
done
# The job may have put pipes in their places, which would block.
for note in times exitcode peakbytes cachebytes cpumicroseconds; do
    rm -rf "/leruli/$note" 2>/dev/null
done
# The container's own cgroup, of version 2 (Linux 5.19 and later) or 1.
for peak in /sys/fs/cgroup/memory.peak /sys/fs/cgroup/memory/memory.max_usage_in_bytes; do
    if [ -r "$peak" ] && read -r peak <"$peak"; then
        echo "$peak" >/leruli/peakbytes
        break
    fi
done
# Page cache that the kernel counts as the container's, which is part of the peak.
for stat in /sys/fs/cgroup/memory.stat /sys/fs/cgroup/memory/memory.stat; do
    if [ -r "$stat" ]; then
        cache=0
        while read -r name bytes; do
            case $name in active_file | inactive_file) cache=$((cache + bytes)) ;; esac
        done <"$stat"
        echo "$cache" >/leruli/cachebytes
        break
    fi
done
# All processes of the container, also those that nobody waited for.
if [ -r /sys/fs/cgroup/cpu.stat ]; then
    read -r name used </sys/fs/cgroup/cpu.stat && echo "$used" >/leruli/cpumicroseconds
elif [ -r /sys/fs/cgroup/cpuacct/cpuacct.usage ]; then
    read -r used </sys/fs/cgroup/cpuacct/cpuacct.usage
    echo "$((used / 1000))" >/leruli/cpumicroseconds
fi
times >/leruli/times 2>/dev/null
echo "$code" >/leruli/exitcode
exit "$code"
"""


def write_control(
    control: Path, attempt: AttemptId, grant: StartGrant, node_name: str = ""
) -> None:
    """Make the control folder with main.sh, usable by any user that the image names."""
    control.mkdir()
    script = control / "main.sh"
    environment = job_environment(attempt, grant, node_name)
    words = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    text = MAIN_SCRIPT.replace("@environment@", " ".join(["export", *words]))
    script.write_text(text, encoding="utf-8")
    script.chmod(0o755)
    control.chmod(0o777)
