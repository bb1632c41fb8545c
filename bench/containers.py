"""Start and end of containers by Docker's clock, and the rate of bare `docker run`."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.node_stack import IMAGE, MEMORY_MB

_ATTEMPT = "leruli.attempt"


@dataclass
class Lives:
    """Start and end of each job's container, by job id, in seconds since 1970."""

    started: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)

    def take(self, line: str) -> None:
        """Record one event of Docker, given as a JSON line."""
        event = json.loads(line)
        attempt = event["Actor"]["Attributes"].get(_ATTEMPT)
        if attempt is None:
            return
        job_id = attempt.rpartition("x")[0]
        times = {"start": self.started, "die": self.ended}.get(event["Action"])
        if times is not None:
            times.setdefault(job_id, event["timeNano"] / 1e9)


@contextmanager
def watched_containers() -> Iterator[Lives]:
    """Record Docker's events about containers of jobs inside the block."""
    command = ["docker", "events", "--format", "{{json .}}", "--filter", f"label={_ATTEMPT}"]
    command += ["--filter", "event=start", "--filter", "event=die"]
    # Include events from before Docker answers this command.
    command += ["--since", f"{time.time():.9f}"]
    lives = Lives()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        events = process.stdout
        if events is None:
            raise OSError("docker events has no output")

        def follow() -> None:
            for line in events:
                lives.take(line)

        reader = threading.Thread(target=follow, daemon=True)
        reader.start()
        try:
            yield lives
            # Docker reports an end with a short delay.
            time.sleep(0.5)
        finally:
            process.terminate()
            reader.join()


def bare_rate(count: int, at_once: int) -> float:
    """Return the containers per second of `docker run --rm`, with ``at_once`` in parallel."""
    command = [
        *("docker", "run", "--rm", "--network", "none", "--security-opt", "no-new-privileges"),
        *("--cpus", "1", "--memory", f"{MEMORY_MB}m", "--pids-limit", "32768", IMAGE, "true"),
    ]

    def run(_number: int) -> None:
        subprocess.run(command, check=True, capture_output=True, timeout=120)

    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run, range(count)))
    return count / (time.perf_counter() - began)
