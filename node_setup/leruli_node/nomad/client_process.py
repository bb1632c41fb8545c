"""A thread that keeps Nomad's client running on this node."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from leruli_node.folders import Folders
from leruli_node.nomad import die_with_parent, orphans

log = logging.getLogger(__name__)

_LOG_BYTES = 10 * 2**20
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "USER")
# Go collects garbage when the heap is three times the live data, not twice. There is no memory
# limit: a soak run showed that a client whose live data exceeds it does little but collect garbage.
_GO_RUNTIME = {"GOGC": "200"}
# After a run of this length (s) the next restart is quick again.
_WELL = 60.0


class NomadClient:
    """Runs `nomad agent` as a child process and restarts it until `stop` is called."""

    def __init__(self, program: Path, folders: Folders) -> None:
        self._program = program
        self._folders = folders
        self._log_file = folders.logs / "nomad.log"
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._kill_after_s = 15.0
        self._was_started = False
        # The kernel sends the parent-death signal when the forking thread ends. This thread lives
        # as long as the agent.
        self._thread = threading.Thread(target=self._run, name="nomad", daemon=True)

    def start(self) -> None:
        """Start Nomad and keep it running."""
        self._was_started = True
        self._thread.start()

    @property
    def was_started(self) -> bool:
        """Whether `start` was called. Before that there is no process of this run to end."""
        return self._was_started

    def reload(self) -> None:
        """Have Nomad read its certificate again. Running jobs are not touched."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGHUP)

    def stop(self, kill_after_s: float) -> None:
        """End Nomad: TERM, and KILL after `kill_after_s` seconds."""
        self._kill_after_s = kill_after_s
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=kill_after_s + 5.0)

    def _run(self) -> None:
        delay = 1.0
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self._process = self._spawn()
            except OSError as error:
                log.error("Nomad cannot be started: %s", error.strerror)
            else:
                log.info("Nomad started", extra={"pid": self._process.pid})
                while self._process.poll() is None and not self._stop.wait(0.5):
                    self._rotate_log()
                    orphans.reap({self._process.pid})
                if self._stop.is_set():
                    break
                code = self._process.returncode
                log.error("Nomad ended with code %s; starting it again", code)
            delay = 1.0 if time.monotonic() - started > _WELL else min(60.0, delay * 2)
            self._stop.wait(delay)
        self._end()

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-I",
            "-S",
            os.path.abspath(die_with_parent.__file__),
            str(os.getpid()),
        ]
        command += [str(self._program), "agent", f"-config={self._folders.nomad_config}"]
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment.update(_GO_RUNTIME)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log_file = os.open(self._log_file, flags, 0o600)
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                env=environment,
                cwd="/",
                # Ctrl-C in a terminal must reach only the agent, which then ends Nomad.
                start_new_session=True,
            )
        finally:
            os.close(log_file)

    def _end(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(self._kill_after_s)
        except subprocess.TimeoutExpired:
            log.warning("Nomad does not end; killing it")
            process.kill()
            process.wait()

    def _rotate_log(self) -> None:
        """Copy and truncate the log, as Nomad keeps it open. There are at most two files."""
        try:
            if self._log_file.stat().st_size > _LOG_BYTES:
                shutil.copyfile(self._log_file, self._log_file.with_suffix(".log.1"))
                os.truncate(self._log_file, 0)
        except OSError as error:
            log.warning("Nomad's log cannot be rotated: %s", error.strerror)
