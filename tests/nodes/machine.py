"""A host that becomes a node with the package, as an operator does it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e2e_world import StackOfTest, wait_for
from hosts import Host

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "dist/nomadrun.tar"
README = ROOT / "node_setup/README.md"
GET_STARTED = "/opt/nomadrun/get-started.sh"
RUN = "/opt/nomadrun/run.sh"
NODE_DIR = "/data/leruli/nomad"
_PID = "/run/run.sh.pid"
_MISSING = 3


def readme_blocks() -> list[tuple[str, str]]:
    """Return the README's command blocks, each with the user of its section."""
    chapter = README.read_text().partition("\n# The node agent\n")[0]
    found = []
    for section in re.split(r"^## ", chapter, flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        user = re.search(r"\(as (?:user )?(\w+)\)$", title)
        for block in re.findall(r"^```bash\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
            assert user, f"the section {title} does not say as whom"
            found.append((user[1], block.strip()))
    return found


def root_commands(said: str) -> list[str]:
    """Return the commands for root that get-started.sh prints."""
    lines = said.partition("As root:\n\n")[2].partition("\n\n")[0].splitlines()
    return [line.removeprefix("    ") for line in lines]


_FIRST_OF_LERULI = [user for user, _ in readme_blocks()].index("leruli")


class Machine:
    """One host and what an operator does on it."""

    def __init__(self, host: Host, stack: StackOfTest) -> None:
        self.host = host
        self.stack = stack
        self.log = host.folder / "run.log"
        self._running: subprocess.Popen[bytes] | None = None

    # --- making it a node

    def follow_readme(self, **settings: str) -> None:
        """Follow the README word for word, up to run.sh, which is left running."""
        self.unpack()
        for user, block in readme_blocks()[_FIRST_OF_LERULI:]:
            if block.endswith(RUN):
                self.write_settings(**settings)
                self.start()
            elif user == "leruli":
                self.get_started(block)
            else:
                self.host.shell(block)

    def unpack(self) -> None:
        """The README up to get-started.sh: the user, the folder, the package."""
        shutil.copy(PACKAGE, self.host.folder / "tmp/nomadrun.tar")
        for _, block in readme_blocks()[:_FIRST_OF_LERULI]:
            self.host.shell(f"cd /tmp\n{block}")
        (self.host.folder / "tmp/nomadrun.tar").unlink()

    def check(self, option: str = "--check", **env: str) -> subprocess.CompletedProcess[str]:
        """get-started.sh with an option."""
        words = [*(f"{name}={value}" for name, value in env.items()), "bash", GET_STARTED, option]
        return self.host.run("env", *words, user="leruli", check=False)

    def get_started(self, block: str = f"bash {GET_STARTED}") -> list[str]:
        """Run it and root's commands until nothing is missing. Return root's commands."""
        asked: list[str] = []
        while True:
            done = self.host.shell(block, user="leruli", check=False)
            if done.returncode != _MISSING:
                assert done.returncode == 0, done.stdout + done.stderr
                return asked
            commands = root_commands(done.stdout)
            assert commands, done.stdout
            assert not set(commands) & set(asked), f"{commands} did not help: {done.stdout}"
            asked += commands
            for command in commands:
                self.host.shell(command)

    def settings(self) -> dict[str, str]:
        """Return the settings that admin and owner of the object store give the operator."""
        secrets, user = self.stack.secrets, self.stack.user
        return {
            "LERULI_BASEURL": user["LERULI_BASEURL"],
            "LERULI_ALLOW_PLAIN_HTTP": "1",
            "LERULI_GROUP_TOKEN": secrets["group_token"],
            "LERULI_COMPUTE_SECRET": secrets["compute_secret"],
            "LERULI_S3_SERVER": user["LERULI_S3_SERVER"],
            "LERULI_S3_ACCESS": user["LERULI_S3_ACCESS"],
            "LERULI_S3_SECRET": user["LERULI_S3_SECRET"],
        }

    def write_settings(self, **changes: str) -> None:
        """Fill in node.env as in an editor: set existing lines, append the others."""
        path = self.host.path("/opt/nomadrun/node.env")
        text = path.read_text()
        wanted: Mapping[str, str] = {**self.settings(), **changes}
        for name, value in wanted.items():
            text, found = re.subn(rf"^#?{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
            if not found:
                text += f"{name}={value}\n"
        path.write_text(text)

    # --- run.sh

    def start(self) -> None:
        """Start `bash run.sh` without waiting."""
        command = self.host.command("bash", "-c", f"echo $$ >{_PID}; exec bash {RUN}")
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Wait until Nomad could place a job here."""
        wait_for(self.is_ready, seconds=seconds, what=f"{self.host.name} is ready:\n{self.said()}")

    def is_ready(self) -> bool:
        """Return whether Nomad could place a job here."""
        if self._running is not None:
            assert self._running.poll() is None, self.said()
        node = self.in_nomad()
        return node is not None and (
            node["Status"] == "ready"
            and node["SchedulingEligibility"] == "eligible"
            and bool(node["Drivers"].get("leruli", {}).get("Healthy"))
        )

    def in_nomad(self) -> dict[str, Any] | None:
        """Return this node from Nomad's list."""
        file = self.host.path(f"{NODE_DIR}/node.json")
        nodeid = re.search(r'"nodeid": ?"([^"]+)"', file.read_text() if file.exists() else "")
        for node in self.stack.nomad("/v1/nodes"):
            if nodeid and node["ID"] == nodeid[1]:
                return dict(node)
        return None

    def rundirs(self, job: str) -> list[Path]:
        """The folders in which attempts of a job run here."""
        return sorted(self.host.path(f"{NODE_DIR}/jobs").glob(f"{job}x*/rundir"))

    def said(self) -> str:
        """Return the output of run.sh and the agent so far."""
        return self.log.read_text() if self.log.exists() else ""

    def wait_to_say(self, sentence: str, seconds: float = 30) -> None:
        """Wait until run.sh or the agent has written this text."""
        wait_for(lambda: sentence in self.said(), seconds=seconds, what=sentence)

    def signal(self, name: str) -> None:
        """Send run.sh a signal."""
        self.host.shell(f"kill -{name} $(cat {_PID})")

    def wait_for_end(self, seconds: float = 60) -> int:
        """Wait until run.sh has ended. Return its exit code."""
        assert self._running is not None
        return self._running.wait(seconds)

    def stop(self) -> None:
        """Drain and wait for it."""
        self.signal("TERM")
        assert self.wait_for_end() == 0, self.said()
