"""Short jobs that write down who they are and when they ran, and programs that run them bare."""

from __future__ import annotations

import random
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from bench.load import UnexpectedAnswerError
from leruli_queue.errors import SetupError

XTB_IMAGE = "xtb:6.5.1"
XTB_MEMORY_MB = 300
# In which a job writes its id, its bucket, and start and end of its command.
OWN = "own.txt"
_SEED = 19
# Small molecules: symbols and Å.
_MOLECULES = (
    (("O", 0, 0, 0), ("H", 0, 0.76, 0.59), ("H", 0, -0.76, 0.59)),
    (
        ("N", 0, 0, 0.1),
        ("H", 0, 0.94, -0.27),
        ("H", 0.81, -0.47, -0.27),
        ("H", -0.81, -0.47, -0.27),
    ),
    (("C", 0, 0, 0), ("O", 0, 0, 1.21), ("H", 0, 0.94, -0.59), ("H", 0, -0.94, -0.59)),
    (
        *(("C", 0, 0, 0), ("H", 0.63, 0.63, 0.63), ("H", -0.63, -0.63, 0.63)),
        *(("H", -0.63, 0.63, -0.63), ("H", 0.63, -0.63, -0.63)),
    ),
)
_SHIFT = 0.02


@dataclass(frozen=True)
class Run:
    """Start and end of a job's command in s since 1970, as the job wrote them."""

    began: float
    ended: float


def true_job(bucket: str) -> dict[str, str]:
    """Return the files of a job that runs `true`."""
    return {"run.sh": _script(bucket, "true")}


def xtb_job(bucket: str) -> dict[str, str]:
    """Return the files of a job that computes the energy of a small molecule with xtb."""
    draw = random.Random(f"{_SEED} {bucket}")  # noqa: S311  # no secret
    atoms = draw.choice(_MOLECULES)
    lines = [
        f"{symbol} " + " ".join(f"{value + draw.gauss(0, _SHIFT):.6f}" for value in place)
        for symbol, *place in atoms
    ]
    return {
        "run.sh": _script(bucket, "xtb molecule.xyz --sp >xtb.out 2>xtb.err"),
        "molecule.xyz": "\n".join([str(len(atoms)), "made by the bench", *lines, ""]),
    }


def _script(bucket: str, command: str) -> str:
    # Only builtins of bash besides the command: no process is counted that is not the job's.
    return (
        "#!/bin/bash\n"
        f'echo "$LERULI_JOBID {bucket} $EPOCHREALTIME" >{OWN}\n'
        f"{command} || exit\n"
        f'echo "$EPOCHREALTIME" >>{OWN}\n'
    )


def read_own(job_id: str, bucket: str, content: bytes) -> Run:
    """Return when a job ran.

    Raises
    ------
    UnexpectedAnswerError
        If another job, or the job of another bucket, wrote this.
    """
    words = content.decode().split()
    if len(words) != 4 or words[:2] != [job_id, bucket]:
        raise UnexpectedAnswerError(f"In the bucket of job {job_id} is {content[:200]!r}.")
    return Run(float(words[2]), float(words[3]))


def gaps_in_slots(runs: Mapping[str, Run], slots: Mapping[str, str]) -> list[float]:
    """Return the seconds from the end of each command to the start of the next one in its slot.

    Parameters
    ----------
    runs
        The run of each job.
    slots
        The name of each job's slot.
    """
    by_slot: dict[str, list[Run]] = defaultdict(list)
    for job_id, run in runs.items():
        by_slot[slots[job_id]].append(run)
    ordered = (sorted(ran, key=lambda run: run.began) for ran in by_slot.values())
    return [after.began - before.ended for ran in ordered for before, after in pairwise(ran)]


def bare_rate(folder: Path, jobs: Iterable[Mapping[str, str]], at_once: int) -> float:
    """Return the jobs per second of xargs, which starts each job in a folder of its own."""
    names = _written(folder, jobs)
    began = time.perf_counter()
    _check(
        subprocess.run(
            ["xargs", "-P", str(at_once), "-I{}", "bash", "-c", _BARE, "bash", "{}"],
            cwd=folder,
            input="\n".join(names),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    )
    return len(names) / (time.perf_counter() - began)


def bare_xtb_rate(folder: Path, jobs: Iterable[Mapping[str, str]], at_once: int) -> float:
    """Return the jobs per second of xargs inside one container of xtb.

    The container has no limits, and its start is not counted.
    """
    names = _written(folder, jobs)
    (folder / "names").write_text("\n".join(names), encoding="utf-8")
    script = (
        f"began=$EPOCHREALTIME; xargs -P {at_once} -I{{}} bash -c '{_BARE}' bash {{}} <names"
        ' || exit; echo "$began $EPOCHREALTIME"'
    )
    command = ["docker", "run", "--rm", "--network", "none", "--volume", f"{folder}:/bench"]
    command += [
        "--env",
        "OMP_NUM_THREADS=1",
        "--workdir",
        "/bench",
        XTB_IMAGE,
        "bash",
        "-c",
        script,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    _check(done)
    began, ended = (float(word) for word in done.stdout.split())
    return len(names) / (ended - began)


_BARE = 'cd "$1" && exec bash run.sh >joblog.txt 2>joberr.txt'


def _written(folder: Path, jobs: Iterable[Mapping[str, str]]) -> Sequence[str]:
    names = []
    for number, files in enumerate(jobs):
        (folder / str(number)).mkdir(parents=True)
        for name, text in files.items():
            (folder / str(number) / name).write_text(text, encoding="utf-8")
        names.append(str(number))
    return names


def _check(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise SetupError(f"The bare jobs failed: {done.stderr.strip()[-500:]}")


def middle(values: Sequence[float], what: str) -> float:
    """Return the median; an empty list means that the measurement is wrong."""
    if not values:
        raise UnexpectedAnswerError(f"There is no {what}: no slot ran a second job.")
    return median(values)
