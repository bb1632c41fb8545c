"""The peer: SLURM from Debian's packages, set up to be as fast as it is known to be.

Its munged and slurmctld are processes of ours on ports and sockets of our own; nothing of a SLURM
that may run on this machine is touched. There is no slurmd: jobs wait, as ours do while intake is
measured, so that nothing is taken from SLURM's rate by running them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from leruli_queue.embedded.ports import free_ports
from leruli_queue.embedded.processes import Part
from leruli_queue.errors import SetupError

_CLIENTS = 8
SBATCH = f"SLURM, sbatch, {_CLIENTS} clients"
C_API = f"SLURM, C API, {_CLIENTS} clients"
# sbatch starts a process a job and is the slowest; 1,000 is the least that says something.
_JOBS_BY_SBATCH = 1000
_JOBS_BY_API = 4000
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_PROGRAMS = ("slurmctld", "munged", "sbatch", "sinfo", "gcc")


@dataclass(frozen=True)
class Slurm:
    """A running slurmctld, and the environment in which its clients find it."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, limit_s: float, text: str = "") -> float:
        """Run a client and return the seconds it took.

        Raises
        ------
        SetupError
            When it fails, with what it said.
        """
        began = time.perf_counter()
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.folder,
            input=text,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SetupError(f"{command[0]} failed: {done.stderr.strip()[-500:]}")
        return seconds


def version() -> str | None:
    """Return SLURM's version, or None where it is not installed."""
    if any(shutil.which(name, path=_PATH) is None for name in _PROGRAMS):
        return None
    if not Path("/usr/include/slurm/slurm.h").exists():
        return None
    # Unlike its clients' --version it needs no configuration.
    said = subprocess.run(
        ["slurmctld", "-V"], env={"PATH": _PATH}, capture_output=True, text=True, check=True
    )
    return said.stdout.split()[-1]


def intake_rates(folder: Path, limit_s: float) -> dict[str, float]:
    """Return accepted jobs a second, by the way they are submitted.

    Each way has a slurmctld that knows no other jobs: more waiting ones make it slower.
    """
    with running_slurm(folder) as slurm:
        script = slurm.folder / "job.sh"
        script.write_text("#!/bin/sh\ntrue\n", encoding="utf-8")
        # xargs and not Python starts them: less of the two cores is gone for the measuring.
        seconds = slurm.run(
            *("xargs", "-P", str(_CLIENTS), "-n", "1"),
            *("sbatch", "--quiet", "--output=/dev/null", str(script)),
            limit_s=limit_s,
            text="\n".join(map(str, range(_JOBS_BY_SBATCH))),
        )
        by_sbatch = _JOBS_BY_SBATCH / seconds
    with running_slurm(folder) as slurm:
        submit = _compiled(slurm.folder)
        seconds = slurm.run(str(submit), str(_CLIENTS), str(_JOBS_BY_API), limit_s=limit_s)
        by_api = _JOBS_BY_API / seconds
    return {
        SBATCH: by_sbatch,
        C_API: by_api,
    }


def cancel_seconds(folder: Path, count: int, limit_s: float) -> float:
    """Return how long scancel takes to cancel so many waiting jobs."""
    with running_slurm(folder) as slurm:
        slurm.run(str(_compiled(slurm.folder)), str(_CLIENTS), str(count), limit_s=limit_s)
        return slurm.run("scancel", "--name=bench", limit_s=limit_s)


@contextmanager
def running_slurm(folder: Path) -> Iterator[Slurm]:
    """Run a slurmctld without any job.

    Raises
    ------
    SetupError
        When one of its processes does not start, with the end of its log.
    """
    folder.mkdir(mode=0o755, parents=True)
    # munged wants a short path for its socket, in folders that nobody else may write to.
    run = Path(mkdtemp(prefix="leruli-bench-munge-", dir="/run" if os.getuid() == 0 else None))
    munge_socket = run / "socket"
    key = run / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    [port] = free_ports(1)
    configuration.write_text(_configuration(folder, munge_socket, port), encoding="utf-8")
    environment = {**os.environ, "PATH": _PATH, "SLURM_CONF": str(configuration)}
    munged = Part(
        name="munged",
        arguments=[
            *("munged", "--foreground", "--force"),
            *(f"--socket={munge_socket}", f"--key-file={key}", f"--pid-file={run / 'pid'}"),
            *(f"--seed-file={run / 'seed'}", f"--log-file={run / 'log'}"),
        ],
        environment=environment,
        log=folder / "munged.log",
    )
    slurmctld = Part(
        name="slurmctld",
        arguments=["slurmctld", "-D", "-f", configuration],
        environment=environment,
        log=folder / "slurmctld.out",
        end_signal=signal.SIGTERM,
        patience_s=60,
    )
    try:
        munged.start()
        munged.wait_until(munge_socket.exists, seconds=20)
        slurmctld.start()
        slurmctld.wait_until(lambda: _answers(environment), seconds=60)
        yield Slurm(folder, environment)
    finally:
        slurmctld.stop()
        munged.stop()
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _configuration(folder: Path, munge_socket: Path, port: int) -> str:
    """What SLURM's guide for high throughput asks for; no accounting, no defer, a cheap epilog."""
    (folder / "state").mkdir()
    return "\n".join(
        [
            "ClusterName=bench",
            f"SlurmctldHost={socket.gethostname()}(127.0.0.1)",
            f"SlurmctldPort={port}",
            "SlurmUser=root",
            "AuthType=auth/munge",
            "CredType=cred/munge",
            f"AuthInfo=socket={munge_socket}",
            f"StateSaveLocation={folder / 'state'}",
            f"SlurmctldPidFile={folder / 'slurmctld.pid'}",
            f"SlurmctldLogFile={folder / 'slurmctld.log'}",
            "SlurmctldDebug=error",
            "AccountingStorageType=accounting_storage/none",
            "JobAcctGatherType=jobacct_gather/none",
            "JobCompType=jobcomp/none",
            "MpiDefault=none",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "SwitchType=switch/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU",
            "SchedulerType=sched/backfill",
            "PriorityType=priority/basic",
            "Epilog=/bin/true",
            "MaxJobCount=1100000",
            "MaxArraySize=1000001",
            "MinJobAge=300",
            "MessageTimeout=60",
            "ReturnToService=2",
            "NodeName=bench CPUs=2 State=UNKNOWN NodeHostname=localhost NodeAddr=127.0.0.1",
            "PartitionName=bench Nodes=bench Default=YES MaxTime=INFINITE State=UP",
            "",
        ]
    )


def _answers(environment: dict[str, str]) -> bool:
    asked = subprocess.run(
        ["sinfo", "--noheader"], env=environment, capture_output=True, timeout=90, check=False
    )
    return asked.returncode == 0


def _compiled(folder: Path) -> Path:
    """Compile the client of the C API, for which there is no package of a Python one."""
    program = folder / "slurm_submit"
    source = Path(__file__).with_name("slurm_submit.c")
    subprocess.run(
        ["gcc", "-O2", "-o", str(program), str(source), "-lslurm"], check=True, capture_output=True
    )
    return program
