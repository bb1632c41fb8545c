"""docs/users/inside-a-job.md, row by row, compared with real jobs on a real machine.

A few jobs run at once. A check for each row of the tables reads their results.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e_world import StackOfTest
from probe_jobs import PLAIN, Job, Jobs, run_jobs

PAGE = Path(__file__).parents[2] / "docs" / "users" / "inside-a-job.md"
TEXT = PAGE.read_text(encoding="utf-8")
GRACE_S = 2
"""Seconds between TERM and KILL at a time limit, as conftest.py sets it."""


def tables() -> Iterator[list[str]]:
    """Yield the rows of the page's tables, without their heads."""
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
    """Return the first number in a text of the page."""
    found = re.search(r"\d[\d,]*", text)
    assert found, text
    return int(found[0].replace(",", ""))


@pytest.fixture(scope="module")
def plain(stack: StackOfTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Publish the image without bash."""
    name = "leruli-e2e-without-bash"

    def docker(*arguments: str) -> None:
        subprocess.run(["docker", *arguments], check=True, capture_output=True)

    # Remove a container that a killed test may have left.
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
    example = re.search(r"`leruli (.*?)`", ROWS["psi4"][0])
    assert example
    return run_jobs(stack, tmp_path_factory.mktemp("jobs"), example[1])


def current_folder(jobs: Jobs) -> None:
    assert jobs["usual"]["cwd"] == "/rundir"
    assert {"input.dat", "unchanged.dat", "probe.sh"} < set(jobs["usual"]["listing"].split())


def shell(jobs: Jobs) -> None:
    assert jobs["usual"]["shell"] == jobs["plain"]["shell"] == "run.sh"
    assert jobs["usual"]["bash"] != "none"
    assert jobs["plain"]["bash"] == "none"


def user(jobs: Jobs) -> None:
    assert (jobs["usual"]["user"], jobs["plain"]["user"]) == ("0", "1000")
    # In the submitted folder only the owner could read this file.
    assert jobs["plain"]["writable"] == "yes"
    assert jobs["plain"]["input.dat"] == "42\nmore"


def network(jobs: Jobs) -> None:
    assert jobs["usual"]["network"].splitlines()[0] == "lo"
    assert "Network is unreachable" in jobs["usual"]["network"]


def tmp(jobs: Jobs) -> None:
    assert jobs["usual"]["tmp"] == jobs["plain"]["tmp"] == "yes"
    assert not (jobs["usual"].folder / "left").exists()
    assert jobs["disk"].reason == "used more than 16 MB of disk"


def container(jobs: Jobs) -> None:
    assert "--share-container" in ROWS["container"][0]
    names = [jobs[name].environment["HOSTNAME"] for name in ("usual", "plain", "defaults")]
    assert len(set(names)) == len(names)


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
    """The example passes its arguments on (echo replaces psi4), and its numbers agree."""
    example = re.search(r"--cores (\d+) .*(psi4 -n (\d+) input\.dat)`", ROWS["psi4"][0])
    assert example
    assert example[1] == example[3]
    assert jobs["words"]["joblog.txt"] == example[2]


def others(jobs: Jobs) -> None:
    assert "--threads $LERULI_CORES" in ROWS["others"][0]
    assert jobs["usual"]["threads"] == "--threads 2"


def batch(jobs: Jobs) -> None:
    assert jobs["batched"].environment["LERULI_BATCH"] == str(jobs["batched"].row["batch_id"])
    assert "LERULI_BATCH" not in jobs["usual"].environment


CHECKS: dict[str, Callable[[Jobs], None]] = {
    "current folder": current_folder,
    "shell": shell,
    "user": user,
    "network": network,
    "/tmp": tmp,
    "container": container,
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
    "LERULI_JOB_ID": lambda jobs: check_variable(jobs, "LERULI_JOB_ID", jobs["usual"].id),
    "LERULI_MEMORY_MB": lambda jobs: check_variable(jobs, "LERULI_MEMORY_MB", "501"),
    "LERULI_TIME_LIMIT": lambda jobs: check_variable(jobs, "LERULI_TIME_LIMIT", "86400"),
    "LERULI_ATTEMPT": lambda jobs: check_variable(jobs, "LERULI_ATTEMPT", "1"),
    "LERULI_BATCH": batch,
    "LERULI_NODE": lambda jobs: check_variable(jobs, "LERULI_NODE", jobs["usual"].row["node_name"]),
}


def check_variable(jobs: Jobs, name: str, value: str) -> None:
    assert jobs["usual"].environment[name] == value


def check_term_then_kill(job: Job, seconds: float) -> None:
    """All processes got TERM, and were killed ``seconds`` later."""
    assert (job.folder / "child").exists()
    lived = int(job["last"]) - int(job["checkpoint"])
    # The times are whole seconds, and a machine under load is late.
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
    sentence = re.search(r"`task-cancel` sends TERM too, and KILL (\d+) seconds later", TEXT)
    assert sentence
    job = jobs["cancelled"]
    assert job.state == "cancelled"
    check_term_then_kill(job, int(sentence[1]))


def test_results_come_back(jobs: Jobs) -> None:
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
