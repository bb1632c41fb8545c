"""Jobs that probe their surroundings, for the tests of docs/users/inside-a-job.md."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e_world import FINAL, StackOfTest, wait_for

PLAIN = "leruli-test-plain:1"
"""An image with its own user and without bash."""

PROBE = r"""
pwd > cwd
ls > listing
echo "$0" > shell
echo "${BASH_VERSION:-none}" > bash
id -u > user
echo more >> input.dat && echo yes > writable
ls /sys/class/net > network
timeout 5 bash -c ': </dev/tcp/192.0.2.1/80' 2>> network
echo x > /tmp/left && echo yes > tmp
df -k --output=size /dev/shm | tail -n 1 > shm
cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max > pids 2>/dev/null
cat /sys/fs/cgroup/cpu.max > cpu 2>/dev/null \
    || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us > cpu
env > environment
echo --threads $LERULI_CORES > threads
"""
RESULTS = "echo out; echo err >&2; echo x > made; ln -s made link; mkfifo pipe"
# On TERM the shell and another process each write a file, and go on.
STUBBORN = r"""
(trap 'date +%s > child' TERM; while :; do sleep 0.2; done) &
trap 'date +%s > checkpoint' TERM
while :; do date +%s > next; mv next last; sleep 0.2; done
"""
SUBMIT_FOR_3_S = (
    "import leruli, sys; "
    "leruli.task_submit('.', 'leruli-test', '1', sys.argv[1], memorymb=50, timeseconds=3)"
)


@dataclass(frozen=True)
class Job:
    """A job that has ended, with its results."""

    id: str
    folder: Path
    state: str
    reason: str | None
    row: Mapping[str, Any]  # its row in the table jobs

    def __getitem__(self, name: str) -> str:
        """Return the content of a result."""
        return (self.folder / name).read_text().strip()

    @property
    def environment(self) -> dict[str, str]:
        """Variables that its command saw."""
        return dict(line.split("=", 1) for line in self["environment"].splitlines() if "=" in line)


Jobs = Mapping[str, Job]


def run_jobs(stack: StackOfTest, root: Path, example: str) -> Jobs:
    """Run all jobs of the page, and fetch their results.

    Parameters
    ----------
    root
        Parent of the jobs' folders.
    example
        The page's command line for psi4; echo replaces psi4 in it.
    """

    def folder(name: str) -> Path:
        made = root / name
        made.mkdir()
        for file, mode in (("probe.sh", 0o644), ("input.dat", 0o400), ("unchanged.dat", 0o644)):
            (made / file).write_text(PROBE if file == "probe.sh" else "42\n")
            (made / file).chmod(mode)
        return made

    def submit(name: str, command: str, *options: str, image: str = "leruli-test:1") -> None:
        stack.submit(folder(name), command, *options, image=image)

    submit("usual", f". ./probe.sh; {RESULTS}", "--cores", "2", "--memory", "501")
    submit("cancelled", STUBBORN, "--memory", "50")
    # By the Python module, as the command line takes time limits in minutes.
    subprocess.run(
        [sys.executable, "-c", SUBMIT_FOR_3_S, STUBBORN],
        cwd=folder("time"),
        env=stack.user,
        check=True,
    )
    submit("plain", ". ./probe.sh", "--memory", "50", image=PLAIN)
    submit("defaults", ". ./probe.sh; head -c 70m /dev/zero > /dev/shm/x")
    submit("shm", ". ./probe.sh; head -c 150m /dev/zero > /dev/shm/x",
           "--memory", "300", "--shm-size", "200")  # fmt: skip
    submit("memory", "head -c 100m /dev/zero > /dev/shm/x; sleep 5",
           "--memory", "100", "--shm-size", "100")  # fmt: skip
    submit("disk", "head -c 100m /dev/zero > /tmp/x; sleep 60", "--memory", "50", "--disk", "16")
    submit("pipe", "false | cat", "--memory", "50")
    submit("pipefail", "set -o pipefail; false | cat", "--memory", "50")
    words = (
        " ".join(shlex.split(example)).replace("psi4 1.3.2 -- ", "leruli-test 1 -- echo ").split()
    )
    words[words.index("--cores") + 1] = "1"  # the machine has only two
    done = stack.leruli(folder("words"), *words)
    assert done.returncode == 0, done.stderr

    folder("batched")
    batch = ("task-submit", "--batch", "batched/", "--memory", "50", "leruli-test", "1")
    done = stack.leruli(root, *batch, ". ./probe.sh")
    assert done.returncode == 0, done.stderr

    wait_for(
        lambda: (
            (root / "cancelled/leruli.job").exists()
            and stack.status(root / "cancelled")[0] == "running"
        ),
        seconds=120,
        what="the job to cancel runs",
    )
    assert stack.leruli(root / "cancelled", "task-cancel").returncode == 0
    # The journal of the batch is there too.
    return {path.name: ended(stack, path) for path in root.iterdir() if path.is_dir()}


def ended(stack: StackOfTest, folder: Path) -> Job:
    """Wait until a job has ended, and fetch its results."""
    stack.wait_for_state(folder, *FINAL, seconds=240)
    state, reason = stack.status(folder)
    job_id = (folder / "leruli.job").read_text().strip()
    for name in ("input.dat", "unchanged.dat"):
        (folder / name).unlink()
    stack.get(folder)
    [row] = stack.fetch(
        "SELECT j.*, n.name AS node_name, b.id AS batch_id FROM jobs j "
        "JOIN nodes n ON n.id = j.node_id LEFT JOIN batches b ON b.number = j.batch "
        "WHERE j.id = $1::uuid",
        job_id,
    )
    return Job(job_id, folder, state, reason, row)
