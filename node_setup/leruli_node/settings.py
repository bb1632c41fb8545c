"""All settings of the node agent, read once from the environment."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from leruli_node.errors import EXIT_SETTINGS, AgentError

_SECRETS = (
    "LERULI_GROUP_TOKEN",
    "LERULI_COMPUTE_SECRET",
    "LERULI_S3_ACCESS",
    "LERULI_S3_SECRET",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


@dataclass(frozen=True)
class Settings:
    """The settings. The README has a table of their meanings, units and defaults."""

    base_url: str
    s3_server: str
    group_token: str = field(repr=False)
    compute_secret: str = field(repr=False)
    s3_region: str | None
    s3_access: str = field(repr=False)
    s3_secret: str = field(repr=False)
    node_dir: Path
    node_name: str
    cores: int
    memory_mb: int
    docker_socket: Path
    nomad: Path | None
    nomad_port: int
    driver: Path | None
    runner: Path | None
    grace_seconds: float
    drain_seconds: float
    patience_seconds: float
    refused_seconds: float
    upload_patience_seconds: float
    upload_parallel: int
    input_max_files: int
    input_max_mb: int
    unpack_parallel: int
    output_max_mb: int
    output_max_files: int
    upload_memory_mb: int
    image_free_mb: int | None
    disk_free_mb: int | None
    log_format: str

    def secrets(self) -> tuple[str, ...]:
        """Return the values that must never appear in a log."""
        return (self.group_token, self.compute_secret, self.s3_access, self.s3_secret)


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read and check all settings.

    Raises
    ------
    AgentError
        One sentence that names every missing or wrong setting.
    """
    reader = _Reader(environ)
    # No default: if the line were forgotten, the owner of that host name would get the group's
    # secrets.
    base_url = reader.url("LERULI_BASEURL")
    s3_server = reader.url("LERULI_S3_SERVER")
    secrets = {name: reader.secret(name) for name in _SECRETS}
    name = reader.text("LERULI_NODE_NAME", socket.gethostname())
    if not _NAME.match(name):
        reader.wrong.append("LERULI_NODE_NAME (letters, digits, '.', '_', '-', at most 63)")
    log_format = reader.text("LERULI_NODE_LOG", "auto")
    if log_format not in ("json", "text", "auto"):
        reader.wrong.append("LERULI_NODE_LOG (json, text or auto)")
    node_dir = Path(os.path.abspath(reader.text("LERULI_NODE_DIR", "/data/leruli/nomad")))
    if "${" in str(node_dir) or ":" in str(node_dir):
        # The path is part of Nomad's meta, which is interpolated, and of a bind mount's text.
        reader.wrong.append("LERULI_NODE_DIR (must not contain ':' or '${')")
    settings = Settings(
        base_url=base_url,
        s3_server=s3_server,
        group_token=secrets["LERULI_GROUP_TOKEN"],
        compute_secret=secrets["LERULI_COMPUTE_SECRET"],
        s3_region=reader.optional("LERULI_S3_REGION"),
        s3_access=secrets["LERULI_S3_ACCESS"],
        s3_secret=secrets["LERULI_S3_SECRET"],
        node_dir=node_dir,
        node_name=name,
        cores=reader.number("LERULI_NODE_CORES", machine_cores(), 1),
        memory_mb=reader.number("LERULI_NODE_MEMORY_MB", default_memory_mb(), 64),
        docker_socket=_docker_socket(reader, environ),
        nomad=_program(reader, "LERULI_NODE_NOMAD", "nomad"),
        nomad_port=reader.number("LERULI_NODE_NOMAD_PORT", 0, 0),
        driver=_program(reader, "LERULI_NODE_DRIVER", "leruli-driver"),
        runner=_program(reader, "LERULI_NODE_RUNNER", "leruli-runner"),
        grace_seconds=reader.number("LERULI_NODE_GRACE_SECONDS", 30, 0),
        drain_seconds=reader.number("LERULI_NODE_DRAIN_SECONDS", 120, 0),
        patience_seconds=reader.number("LERULI_NODE_PATIENCE_SECONDS", 600, 1),
        refused_seconds=reader.number("LERULI_NODE_REFUSED_SECONDS", 120, 0),
        upload_patience_seconds=reader.number("LERULI_NODE_UPLOAD_PATIENCE_SECONDS", 7 * 86400, 1),
        upload_parallel=reader.number("LERULI_NODE_UPLOAD_PARALLEL", 4, 1),
        input_max_files=reader.number("LERULI_NODE_INPUT_MAX_FILES", 200_000, 1),
        input_max_mb=reader.number("LERULI_NODE_INPUT_MAX_MB", 51_200, 1),
        unpack_parallel=reader.number("LERULI_NODE_UNPACK_PARALLEL", 16, 1),
        output_max_mb=reader.number("LERULI_NODE_OUTPUT_MAX_MB", 1_000_000, 1),
        disk_free_mb=reader.optional_number("LERULI_NODE_DISK_FREE_MB", 0),
        output_max_files=reader.number("LERULI_NODE_OUTPUT_MAX_FILES", 10_000, 1),
        upload_memory_mb=reader.number("LERULI_NODE_UPLOAD_MEMORY_MB", 160, 64),
        image_free_mb=reader.optional_number("LERULI_NODE_IMAGE_FREE_MB", 0),
        log_format=log_format,
    )
    reader.finish()
    return settings


def machine_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def default_memory_mb() -> int:
    """Return the memory in MB that jobs may use.

    It is the machine's, less 5 % and at least 512 MB for the system and the agent.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return max(64, total - max(512, total // 20))


def _program(reader: _Reader, variable: str, name: str) -> Path | None:
    """Return the configured program, else the one beside this Python, else the one on the PATH."""
    given = reader.optional(variable)
    beside = Path(sys.executable).parent / name
    if not given and os.access(beside, os.X_OK):
        return beside
    found = given or shutil.which(name, path=reader.environ.get("PATH", os.defpath))
    return Path(os.path.abspath(found)) if found else None


def _docker_socket(reader: _Reader, environ: Mapping[str, str]) -> Path:
    given = reader.optional("LERULI_NODE_DOCKER_SOCKET")
    if given:
        return Path(
            os.path.abspath(given[len("unix://") :] if given.startswith("unix:") else given)
        )
    runtime_dir = environ.get("XDG_RUNTIME_DIR")
    candidates = [Path(runtime_dir) / "docker.sock"] if runtime_dir else []
    candidates.append(Path(f"/run/user/{os.getuid()}/docker.sock"))
    for path in candidates:
        if path.exists():
            return path
    return Path("/var/run/docker.sock")


class _Reader:
    """Collects missing and wrong settings, so that the operator sees all of them at once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.missing: list[str] = []
        self.wrong: list[str] = []

    def optional(self, name: str) -> str | None:
        return self.environ.get(name, "").strip() or None

    def text(self, name: str, default: str) -> str:
        return self.optional(name) or default

    def secret(self, name: str) -> str:
        value = self.optional(name)
        path = self.optional(name + "_FILE")
        if value is None and path is not None:
            try:
                value = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeError):
                self.wrong.append(f"{name}_FILE (cannot be read)")
                return ""
        if not value:
            self.missing.append(name)
        return value or ""

    def url(self, name: str) -> str:
        value = (self.optional(name) or "").rstrip("/")
        if not value:
            self.missing.append(name)
        elif not re.match(r"https?://[^/\s@]+(/\S*)?\Z", value):
            self.wrong.append(f"{name} (an address that begins with http:// or https://)")
        elif not value.startswith("https:") and not self._may_be_plain(value):
            self.wrong.append(
                f"{name} (http:// leads unencrypted to another machine: use https://, or, in a "
                "network that you trust, set LERULI_ALLOW_PLAIN_HTTP=1)"
            )
        return value

    def optional_number(self, name: str, least: int) -> int | None:
        return None if self.optional(name) is None else self.number(name, least, least)

    def _may_be_plain(self, url: str) -> bool:
        if self.optional("LERULI_ALLOW_PLAIN_HTTP") not in (None, "0"):
            return True
        try:
            host = urlsplit(url).hostname or ""
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:  # a host name: only DNS knows its address
            return False

    def number(self, name: str, default: int, least: int) -> int:
        value = self.optional(name)
        if value is None:
            return default
        if not value.isascii() or not value.isdigit() or int(value) < least:
            self.wrong.append(f"{name} (a whole number, at least {least})")
            return default
        return int(value)

    def finish(self) -> None:
        sentences = []
        if self.missing:
            sentences.append(f"these settings are missing: {', '.join(self.missing)}")
        if self.wrong:
            sentences.append(f"these settings are wrong: {', '.join(self.wrong)}")
        if sentences:
            raise AgentError("; ".join(sentences) + ".", EXIT_SETTINGS)
