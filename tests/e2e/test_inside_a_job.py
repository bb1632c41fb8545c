"""docs/users/inside-a-job.md, row by row: what real jobs find on a real machine.

A few jobs are submitted at once. Of each row of the tables a check looks at what they found.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e_world import FINAL, StackOfTest, wait_for

PAGE = Path(__file__).parents[2] / "docs" / "users" / "inside-a-job.md"
TEXT = PAGE.read_text(encoding="utf-8")
PLAIN = "leruli-test-plain:1"
"""An image with a user of its own and without bash."""

GRACE_S = 2
"""Between TERM and KILL at a time limit, as conftest.py sets it."""

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
# Writes when it is asked to end, and goes on; so does another process of the job.
STUBBORN = r"""
(trap 'date +%s > child' TERM; while :; do sleep 0.2; done) &
trap 'date +%s > checkpoint' TERM
while :; do date +%s > last; sleep 0.2; done
"""
SUBMIT_FOR_3_S = (
    "import leruli, sys; "
    "leruli.task_submit('.', 'leruli-test', '1', sys.argv[1], memorymb=50, timeseconds=3)"
)


def tables() -> Iterator[list[str]]:
    """The rows of the page's tables, without their heads."""
    inside = False
    for line in TEXT.splitlines():
        if not line.startswith("|"):
            inside = False
        elif line.startswith("|---"):
            inside = True
        elif inside:
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


ROWS = {row[0].strip("`"): row[1:] for row in tables()}


def number(text: str) -> int:
    """The first number in a text of the page."""
    found = re.search(r"\d[\d,]*", text)
    assert found, text
    return int(found[0].replace(",", ""))


@dataclass(frozen=True)
class Job:
    """A job that is over."""

    id: str
    folder: Path
    state: str
    reason: str | None
    row: Mapping[str, Any]  # of the table of jobs

    def __getitem__(self, name: str) -> str:
        """The content of a result."""
        return (self.folder / name).read_text().strip()

    @property
    def environment(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self["environment"].splitlines() if "=" in line)


Jobs = Mapping[str, Job]


@pytest.fixture(scope="module")
def plain(stack: StackOfTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The image without bash, published."""
    name = "leruli-e2e-without-bash"

    def docker(*arguments: str) -> None:
        subprocess.run(["docker", *arguments], check=True, capture_output=True)

    # One that is left over from a test that was killed goes first.
    docker("rm", "--force", name)
    docker("run", "--name", name, "--user", "0", "leruli-test-user:1", "rm", "/bin/bash")
    docker("commit", "--change", "USER 1000:1000", "--change", 'CMD ["sh"]', name, PLAIN)
    docker("rm", name)
    try:
        done = stack.leruli(tmp_path_factory.getbasetemp(), "publish-code", *PLAIN.split(":"))
        assert done.returncode == 0, done.stderr
        yield
    finally:
        docker("rmi", PLAIN)


@pytest.fixture(scope="module")
def jobs(stack: StackOfTest, plain: None, tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """All jobs of this walk, over, with their results fetched."""
    root = tmp_path_factory.mktemp("jobs")

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
    # Through the Python module: the command line counts time limits in minutes.
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
    example = shlex.split(re.search(r"`leruli (.*?)`", ROWS["psi4"][0])[1])  # type: ignore[index]
    words = " ".join(example).replace("psi4 1.3.2 -- ", "leruli-test 1 -- echo ").split()
    words[words.index("--cores") + 1] = "1"  # the machine has two
    done = stack.leruli(folder("words"), *words)
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
    return {path.name: ended(stack, path) for path in root.iterdir()}


def ended(stack: StackOfTest, folder: Path) -> Job:
    stack.wait_for_state(folder, *FINAL, seconds=240)
    state, reason = stack.status(folder)
    job_id = (folder / "leruli.job").read_text().strip()
    for name in ("input.dat", "unchanged.dat"):
        (folder / name).unlink()
    stack.get(folder)
    [row] = stack.fetch("SELECT * FROM jobs WHERE id = $1::uuid", job_id)
    return Job(job_id, folder, state, reason, row)


def current_folder(jobs: Jobs) -> None:
    assert jobs["usual"]["cwd"] == "/rundir"
    assert {"input.dat", "unchanged.dat", "probe.sh"} < set(jobs["usual"]["listing"].split())


def shell(jobs: Jobs) -> None:
    assert jobs["usual"]["shell"] == jobs["plain"]["shell"] == "run.sh"
    assert jobs["usual"]["bash"] != "none"
    assert jobs["plain"]["bash"] == "none"


def user(jobs: Jobs) -> None:
    assert (jobs["usual"]["user"], jobs["plain"]["user"]) == ("0", "1000")
    # Its owner alone could read it where it was submitted.
    assert jobs["plain"]["writable"] == "yes"
    assert jobs["plain"]["input.dat"] == "42\nmore"


def network(jobs: Jobs) -> None:
    assert jobs["usual"]["network"].splitlines()[0] == "lo"
    assert "Network is unreachable" in jobs["usual"]["network"]


def tmp(jobs: Jobs) -> None:
    assert jobs["usual"]["tmp"] == jobs["plain"]["tmp"] == "yes"
    assert not (jobs["usual"].folder / "left").exists()
    assert jobs["disk"].reason == "used more than 16 MB of disk"


def shm(jobs: Jobs) -> None:
    assert number(ROWS["/dev/shm"][0]) * 1024 == int(jobs["defaults"]["shm"])
    assert "No space left on device" in jobs["defaults"]["joberr.txt"]
    assert int(jobs["shm"]["shm"]) == 200 * 1024
    assert jobs["shm"].state == "completed"
    assert jobs["memory"].reason == "killed: used more than 100 MB"


def processes(jobs: Jobs) -> None:
    assert int(jobs["usual"]["pids"]) == number(ROWS["processes and threads"][0])


def cores(jobs: Jobs) -> None:
    assert jobs["defaults"].row["cores"] == number(ROWS["cores"][1])
    for name, count in (("usual", 2), ("defaults", 1)):
        quota, period = jobs[name]["cpu"].split()
        assert int(quota) == count * int(period)


def memory(jobs: Jobs) -> None:
    assert jobs["defaults"].row["memory_mb"] == number(ROWS["memory"][1])
    assert (jobs["memory"].state, jobs["memory"].reason) == (
        "failed",
        "killed: used more than 100 MB",
    )


def time(jobs: Jobs) -> None:
    assert jobs["defaults"].row["time_limit_s"] == number(ROWS["time"][1]) * 60
    job = jobs["time"]
    assert job.state == "failed"
    assert job.reason == "time limit of 3 s reached; output up to then was uploaded"
    check_term_then_kill(job, GRACE_S)
    assert f"{number(ROWS['time'][2])} seconds later KILL" in ROWS["time"][2]
    settings = (PAGE.parents[2] / "node_setup" / "README.md").read_text(encoding="utf-8")
    default = re.search(r"LERULI_NODE_GRACE_SECONDS \|.*\| (\d+) \|", settings)
    assert default
    assert int(default[1]) == number(ROWS["time"][2])


def disk(jobs: Jobs) -> None:
    assert jobs["defaults"].row["disk_mb"] is None
    assert (jobs["disk"].state, jobs["disk"].reason) == ("failed", "used more than 16 MB of disk")


def openmp(jobs: Jobs) -> None:
    [row] = [row for title, row in ROWS.items() if title.startswith("programs with OpenMP")]
    names = re.findall(r"`(\w+_THREADS)`", row[0])
    assert len(names) == 5
    for name in names:
        assert (jobs["usual"].environment[name], jobs["defaults"].environment[name]) == ("2", "1")


def psi4(jobs: Jobs) -> None:
    """With echo in the place of psi4: what the example passes on, and that its numbers agree."""
    said = re.search(r"--cores (\d+) .*(psi4 -n (\d+) input\.dat)`", ROWS["psi4"][0])
    assert said
    assert said[1] == said[3]
    assert jobs["words"]["joblog.txt"] == said[2]


def others(jobs: Jobs) -> None:
    assert "--threads $LERULI_CORES" in ROWS["others"][0]
    assert jobs["usual"]["threads"] == "--threads 2"


CHECKS: dict[str, Callable[[Jobs], None]] = {
    "current folder": current_folder,
    "shell": shell,
    "user": user,
    "network": network,
    "/tmp": tmp,
    "/dev/shm": shm,
    "processes and threads": processes,
    "cores": cores,
    "memory": memory,
    "time": time,
    "disk": disk,
    "programs with OpenMP, MKL, OpenBLAS, NumExpr or Accelerate": openmp,
    "psi4": psi4,
    "others": others,
    "LERULI_JOBID": lambda jobs: check_variable(jobs, "LERULI_JOBID", jobs["usual"].id),
    "LERULI_CORES": lambda jobs: check_variable(jobs, "LERULI_CORES", "2"),
    "LERULI_MEMORYMB": lambda jobs: check_variable(jobs, "LERULI_MEMORYMB", "501"),
}


def check_variable(jobs: Jobs, name: str, value: str) -> None:
    assert jobs["usual"].environment[name] == value


def check_term_then_kill(job: Job, seconds: float) -> None:
    """All processes got TERM, and were killed so many seconds later."""
    assert (job.folder / "child").exists()
    lived = int(job["last"]) - int(job["checkpoint"])
    # To whole seconds; a machine under load is late.
    assert seconds - 1 <= lived <= seconds + 8


def test_every_row_has_a_check() -> None:
    assert set(CHECKS) == set(ROWS)


@pytest.mark.parametrize("row", list(CHECKS))
def test_a_row_is_true(jobs: Jobs, row: str) -> None:
    CHECKS[row](jobs)


def test_a_pipe_has_the_exit_code_of_its_last_program(jobs: Jobs) -> None:
    assert "`false | cat` completes" in TEXT
    assert jobs["pipe"].state == "completed"
    assert jobs["pipefail"].reason == "its command ended with exit code 1"


def test_cancelling_sends_term_and_kill_later(jobs: Jobs) -> None:
    said = re.search(r"`task-cancel` sends TERM too, and KILL (\d+) seconds later", TEXT)
    assert said
    job = jobs["cancelled"]
    assert job.state == "cancelled"
    check_term_then_kill(job, int(said[1]))


def test_what_comes_back(jobs: Jobs) -> None:
    job = jobs["usual"]
    assert (job["made"], job["input.dat"]) == ("x", "42\nmore")
    assert not (job.folder / "unchanged.dat").exists()
    assert job["joblog.txt"] == "out"
    assert job["joberr.txt"].startswith("err")
    assert "pipe" in job["joberr.txt"]
    listed = subprocess.run(
        ["tar", "-tzf", job.folder / "leruli-more.tar.gz"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "link" in listed.stdout
