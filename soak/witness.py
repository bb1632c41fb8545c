"""Docker's events: an independent witness of how often a command was started.

Docker stores only its last few hundred events, so read them as they come.
"""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from leruli_queue.errors import SetupError


@dataclass
class Containers:
    """The containers of one attempt."""

    starts: int = 0
    exit_codes: list[int] = field(default_factory=list)


class Witness:
    """Records starts and ends of the containers of a node until `stop`."""

    def __init__(self, node_id: str, path: Path) -> None:
        self._path = path
        with path.open("wb") as file:
            self._process = subprocess.Popen(
                [
                    *("docker", "events", "--format", "{{json .}}"),
                    *("--filter", "type=container", "--filter", f"label=leruli.node={node_id}"),
                    *("--filter", "event=start", "--filter", "event=die"),
                ],
                stdout=file,
                stdin=subprocess.DEVNULL,
            )

    def stop(self) -> None:
        """End."""
        self._process.terminate()
        self._process.wait()

    def containers(self) -> dict[str, Containers]:
        """Return the containers of each attempt, by <job id>x<number>.

        Raises
        ------
        SetupError
            If `docker events` ended before `stop`.
        """
        if self._process.poll() is not None:
            raise SetupError("`docker events` ended too early. Check that Docker still runs.")
        found: defaultdict[str, Containers] = defaultdict(Containers)
        for line in self._path.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            attributes = event["Actor"]["Attributes"]
            if "leruli.attempt" not in attributes:
                # A shared container: it serves many attempts, and starts before any of them.
                continue
            containers = found[attributes["leruli.attempt"]]
            if event["Action"] == "start":
                containers.starts += 1
            else:
                containers.exit_codes.append(int(attributes["exitCode"]))
        return dict(found)
