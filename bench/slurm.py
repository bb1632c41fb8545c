"""The peer SLURM, from Debian's packages, configured for the highest rate known.

munged and slurmctld run as our processes on our own ports and sockets. A SLURM that already runs on
this machine is not touched. For intake there is no slurmd: the jobs stay queued, as ours do while
intake is measured. So running them takes nothing from SLURM's rate.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
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
DRAIN = "SLURM, bare processes"
# sbatch starts a process per job and is the slowest. Fewer than 1,000 jobs give no stable rate.
_JOBS_BY_SBATCH = 1000
_JOBS_BY_API = 4000
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "sinfo", "gcc")
_POLL_S = 0.1


@dataclass(frozen=True)
class Slurm:
    """A running slurmctld, with the environment that its clients need."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, limit_s: float, text: str = "") -> float:
        """Run a client; return how long it took in s.

        Raises
        ------
        SetupError
            If the client fails; with the end of its standard error.
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
    """Return SLURM's version, or None if SLURM is not installed."""
    if any(shutil.which(name, path=_PATH) is None for name in _PROGRAMS):
        return None
    if not Path("/usr/include/slurm/slurm.h").exists():
        return None
    # Unlike --version of the clients, this needs no configuration.
    done = subprocess.run(
        ["slurmctld", "-V"], env={"PATH": _PATH}, capture_output=True, text=True, check=True
    )
    return done.stdout.split()[-1]


def intake_rates(folder: Path, limit_s: float) -> dict[str, float]:
    """Return accepted jobs per second by way of submitting (SBATCH, C_API).

    Each way has a new slurmctld, as queued jobs make slurmctld slower.
    """
    with running_slurm(folder) as slurm:
        script = slurm.folder / "job.sh"
        script.write_text("#!/bin/sh\ntrue\n", encoding="utf-8")
        # xargs starts the clients with less CPU time than Python would need on these cores.
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
    """Return how long scancel takes to cancel ``count`` queued jobs, in s."""
    with running_slurm(folder) as slurm:
        slurm.run(str(_compiled(slurm.folder)), str(_CLIENTS), str(count), limit_s=limit_s)
        return slurm.run("scancel", "--name=bench", limit_s=limit_s)


def drain_rate(folder: Path, count: int, limit_s: float) -> float:
    """Return the jobs per second from the first submit until the last of ``count`` jobs ended.

    Each job is a shell script with `true`, without a container, on 2 cores.

    Raises
    ------
    TimeoutError
        If this takes longer than ``limit_s``.
    """
    with running_slurm(folder, node=True) as slurm:
        submit = _compiled(slurm.folder)
        # Warm-up: the node gets its first jobs with its first messages.
        slurm.run(str(submit), "1", "2", limit_s=limit_s)
        _wait_until_ended(slurm, limit_s)
        began = time.perf_counter()
        slurm.run(str(submit), str(_CLIENTS), str(count), limit_s=limit_s)
        _wait_until_ended(slurm, limit_s)
        return count / (time.perf_counter() - began)


def _wait_until_ended(slurm: Slurm, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while subprocess.run(
        ["squeue", "--noheader"], env=slurm.environment, capture_output=True, check=True
    ).stdout:
        if time.monotonic() > deadline:
            raise TimeoutError(f"SLURM did not run its jobs within {limit_s:.0f} s.")
        time.sleep(_POLL_S)


@contextmanager
def running_slurm(folder: Path, *, node: bool = False) -> Iterator[Slurm]:
    """Run a slurmctld without jobs; with a slurmd on this machine if ``node``.

    Raises
    ------
    SetupError
        If a process does not start; with the end of its log.
    """
    folder.mkdir(mode=0o755, parents=True)
    # munged needs a short path for its socket, in folders that no other user may write to.
    run = Path(mkdtemp(prefix="leruli-bench-munge-", dir="/run" if os.getuid() == 0 else None))
    munge_socket = run / "socket"
    key = run / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    ports = free_ports(2)
    configuration.write_text(_configuration(folder, munge_socket, ports), encoding="utf-8")
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
        stop_timeout_s=60,
    )
    slurmd = Part(
        name="slurmd",
        arguments=["slurmd", "-D", "-N", "bench", "-f", configuration],
        environment=environment,
        log=folder / "slurmd.out",
        stop_timeout_s=60,
    )
    try:
        munged.start()
        munged.wait_until(munge_socket.exists, seconds=20)
        slurmctld.start()
        slurmctld.wait_until(lambda: _answers(environment), seconds=60)
        if node:
            slurmd.start()
            slurmd.wait_until(lambda: _has_node(environment), seconds=60)
        yield Slurm(folder, environment)
    finally:
        slurmd.stop()
        slurmctld.stop()
        munged.stop()
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _configuration(folder: Path, munge_socket: Path, ports: Sequence[int]) -> str:
    """Return a configuration by SLURM's guide for high throughput.

    It has no accounting, no `defer` and a cheap epilog.
    """
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    return "\n".join(
        [
            "ClusterName=bench",
            f"SlurmctldHost={socket.gethostname()}(127.0.0.1)",
            f"SlurmctldPort={ports[0]}",
            f"SlurmdPort={ports[1]}",
            f"SlurmdSpoolDir={folder / 'spool'}",
            f"SlurmdPidFile={folder / 'slurmd.pid'}",
            f"SlurmdLogFile={folder / 'slurmd.log'}",
            "SlurmdDebug=error",
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


def _has_node(environment: dict[str, str]) -> bool:
    asked = subprocess.run(
        ["sinfo", "--noheader", "--format=%T"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return asked.stdout.strip() == "idle"


def _compiled(folder: Path) -> Path:
    """Compile the client of the C API; Debian has no Python package for this API."""
    program = folder / "slurm_submit"
    source = Path(__file__).with_name("slurm_submit.c")
    subprocess.run(
        ["gcc", "-O2", "-o", str(program), str(source), "-lslurm"], check=True, capture_output=True
    )
    return program
