"""Every setting of the service: environment variables named ``LERULI_QUEUE_<FIELD>``.

A value may also stand in a file ``leruli_queue_<field>`` of the folder that
``LERULI_QUEUE_SECRETS_DIR`` names, as container platforms mount secrets; the environment wins.
docs/admins/settings.md is this file as a table (a test compares them).
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from leruli_queue.errors import SetupError

PREFIX = "LERULI_QUEUE_"
SECRETS_DIR_VARIABLE = f"{PREFIX}SECRETS_DIR"
_SHORTEST_HIDDEN = 8


class Settings(BaseSettings):
    """The settings of ``serve`` and ``dispatch``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    # Database
    database_url: SecretStr = Field(
        description="Address of PostgreSQL, `postgresql://user:password@host:port/database`."
    )
    database_pool_size: int = Field(
        10, ge=2, le=500, description="Connections that one process keeps to PostgreSQL."
    )
    database_timeout_s: float = Field(
        30.0, gt=0, description="Seconds that connecting to, or one statement in, PostgreSQL takes."
    )

    busy_after_s: float = Field(
        5.0,
        gt=0,
        description="Seconds that a request waits for one of these connections; then it is "
        "answered with 503 and Retry-After.",
    )

    # HTTP
    listen_host: str = Field("127.0.0.1", description="Address that `serve` listens on.")
    allow_plain_http: bool = Field(
        False,
        description="Whether `serve` may listen on another address than loopback. It speaks "
        "plain http, so on its way to a proxy with TLS all can be read: only in a network that you "
        "trust.",
    )
    listen_port: int = Field(8022, ge=1, le=65535, description="Port that `serve` listens on.")
    listen_workers: int = Field(1, ge=1, le=64, description="Processes of one `serve`.")
    max_body_bytes: int = Field(
        4_000_000,
        ge=10_000,
        description="Size of a request's body above which it is refused (413).",
    )
    max_held_bytes: int = Field(
        100_000_000,
        ge=1_000_000,
        description="Bytes of bodies that one process holds at the same time; the one that has "
        "been arriving longest is refused for more (503).",
    )
    max_connections: int = Field(
        4000,
        ge=10,
        description="Connections of clients to one process; for more, the one whose request has "
        "been awaited longest is closed. At most what the limit of open files leaves.",
    )
    header_timeout_s: float = Field(
        10.0,
        gt=0,
        description="Seconds that a connection may be open without the header of a request.",
    )
    body_timeout_s: float = Field(
        60.0, gt=0, description="Seconds in which a request's body has to arrive (408)."
    )

    trusted_proxies: Annotated[list[str], NoDecode] = Field(
        ["127.0.0.1"],
        description="Addresses or networks of proxies whose X-Forwarded-For is believed, separated "
        "by commas.",
    )
    refusal_delay_s: float = Field(
        5.0,
        ge=0,
        le=60,
        description="Seconds that the answer to a wrong secret is held back at most, after several "
        "from the same address or with the same key id.",
    )
    max_delayed_refusals: int = Field(
        200,
        ge=0,
        description="Answers that one process holds back at the same time; more are 429 at once.",
    )

    node_package: Path | None = Field(
        None,
        description="The file nomadrun.tar (`make dist`) that is handed out at `/nomadrun.tar`.",
    )

    # Limits of a job
    max_bulk: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="Jobs in one bulk/task-submit above which it is refused.",
    )
    max_bulk_secrets: int = Field(
        10, ge=1, description="Different API secrets in one bulk/task-submit."
    )
    max_waiting: int = Field(
        2_000_000,
        ge=1,
        description="Jobs of one group that may wait to be dispatched; more are answered with 503 "
        "and Retry-After. While there is room for one, a post is taken whole: the bound may be "
        "exceeded by one post in each process of `serve`.",
    )
    max_waiting_user: int = Field(
        1_000_000,
        ge=1,
        description="The same for the jobs of one user, so that others of the group find room.",
    )
    max_cores: int = Field(1024, ge=1, description="Cores that one job may ask for.")
    max_memory_mb: int = Field(
        16_000_000, ge=16, description="Memory in MB that one job may ask for."
    )
    default_disk_mb: int = Field(
        100_000,
        ge=16,
        description="Disk in MB that a job may use which asks for none.",
    )
    max_disk_mb: int = Field(16_000_000, ge=16, description="Disk in MB that one job may ask for.")
    max_time_limit_s: int = Field(
        366 * 86400, ge=1, description="Time limit in seconds that one job may ask for."
    )
    max_attempts: int = Field(
        5,
        ge=1,
        le=100,
        description="Attempts that the platform may fail before the job is failed for it.",
    )
    retry_delay_s: float = Field(
        30.0,
        ge=0,
        description="Seconds that a job waits after the platform failed an attempt; doubled each "
        "time, an hour at most.",
    )
    node_failures: int = Field(
        3,
        ge=1,
        le=100,
        description="Different jobs in a row that a node may fail before their command runs. Then "
        "it is held back: only a probe, one job at a time, goes there.",
    )
    node_probe_s: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="Seconds until a node that is held back is probed; doubled after each probe "
        "that fails.",
    )
    node_probe_max_s: float = Field(
        3600.0, gt=0, description="Seconds between two probes of a node, at most."
    )

    # Nomad
    nomad_address: str = Field(
        "https://127.0.0.1:4646",
        pattern="^https://",
        description="Address of Nomad's HTTP API (any server); https, always.",
    )
    nomad_token: SecretStr | None = Field(
        None, description="ACL token for Nomad, with the policy in nomad_jobs/service.policy.hcl."
    )
    nomad_namespace: str = Field("leruli", description="Nomad's namespace for our jobs.")
    nomad_region: str = Field("global", description="Nomad's region.")
    nomad_datacenter: str = Field("dc1", description="Nomad's datacenter of the nodes.")
    nomad_servers: Annotated[list[str], NoDecode] = Field(
        ["127.0.0.1:4647"],
        description="RPC addresses of the Nomad servers, as nodes reach them, separated by commas.",
    )
    nomad_timeout_s: float = Field(10.0, gt=0, description="Seconds that a call to Nomad may take.")
    nomad_ca_file: Path = Field(
        Path("/etc/leruli-queue/tls/ca.pem"),
        description="Certificate of the authority that Nomad's servers and nodes trust "
        "(`leruli-queue tls-init` makes this one and the next three).",
    )
    nomad_ca_key_file: Path = Field(
        Path("/etc/leruli-queue/tls/ca-key.pem"),
        description="Its key, with which `serve` signs the certificates of nodes.",
    )
    nomad_cert_file: Path = Field(
        Path("/etc/leruli-queue/tls/broker.pem"),
        description="Certificate with which the service calls Nomad.",
    )
    nomad_key_file: Path = Field(
        Path("/etc/leruli-queue/tls/broker-key.pem"), description="Its key."
    )
    nomad_clusters_dir: Path | None = Field(
        None,
        description="Folder with one folder a further Nomad cluster, for groups that have one of "
        "their own (docs/admins/operate.md).",
    )

    # Nodes
    node_certificate_s: float = Field(
        86400.0,
        ge=60,
        le=30 * 86400,
        description="Seconds for which a node's certificate is valid; it is renewed after a third.",
    )
    node_report_s: float = Field(
        15.0, gt=0, le=60, description="Seconds between two reports of a node to the service."
    )

    node_unseen_s: float = Field(
        86400.0,
        ge=600,
        description="Seconds after which a node that neither reported nor was heard by Nomad is "
        "left out of what is compared and of what jobs are dispatched for, until it is back.",
    )
    group_nodes: int = Field(
        5000,
        ge=1,
        description="Nodes that one group may have; those unseen for LERULI_QUEUE_NODE_UNSEEN_S do "
        "not count. A machine that would be one more is answered with 503 and Retry-After.",
    )
    node_joins_a_minute: int = Field(
        600,
        ge=1,
        description="Calls of node-join that one group may make in a minute, in each process of "
        "`serve`; more are answered with 503 and Retry-After.",
    )
    node_max_cores: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="Cores that one machine may claim when it joins; more are refused (422).",
    )
    node_max_memory_mb: int = Field(
        32_000_000,
        ge=64,
        le=2**31 - 1,
        description="Memory in MB that one machine may claim when it joins; more is refused (422).",
    )

    # Dispatcher
    window_min: int = Field(
        4, ge=1, description="Dispatched jobs that wait for a place in a group's pool, at least."
    )
    window_max: int = Field(
        200, ge=1, description="Dispatched jobs that wait for a place, at most, over all groups."
    )
    place_patience_s: float = Field(
        600.0,
        gt=0,
        description="Seconds that a job waits for a place, while smaller ones of its group find "
        "one, before a node is kept for it.",
    )
    dispatch_concurrency: int = Field(4, ge=1, le=64, description="Dispatches to Nomad at once.")
    feed_interval_s: float = Field(
        0.25,
        gt=0,
        description="Seconds between two looks at the backlog; down to a quarter of it after one "
        "that found something, and none when bringing that to Nomad took as long.",
    )
    reconcile_interval_s: float = Field(
        120.0, gt=0, description="Seconds between two full comparisons with Nomad."
    )
    receipt_grace_s: float = Field(
        900.0,
        ge=0,
        description="Seconds after the end of an allocation in which its receipt has to come; "
        "then the attempt is given up and the job runs again.",
    )
    start_grace_s: float = Field(
        900.0,
        gt=0,
        description="Seconds that a node has to ask for leave to start what was placed on it; then "
        "the job is dispatched anew. More than an agent tries to ask "
        "(LERULI_NODE_PATIENCE_SECONDS).",
    )
    node_silence_s: float = Field(
        80.0,
        ge=0,
        description="Seconds for which a node may be silent, after Nomad noticed it (20 to 30 s), "
        "before its jobs are given to others; and for which one of these others must have been "
        "heard. A node whose agent has not reported for as long (at least four reports), while "
        "others of the cluster have, gets no new jobs.",
    )
    drain_deadline_s: float = Field(
        60.0, ge=0, description="Seconds that a leaving node's jobs get before they are stopped."
    )
    parent_idle_s: float = Field(
        7 * 86400.0, gt=0, description="Seconds after which an unused parent job leaves Nomad."
    )

    group_parents: int = Field(
        2000,
        ge=100,
        description="Parent jobs that one group may have in Nomad, a few for each image, cores and "
        "memory. For a new one those that were used longest ago leave; what was dispatched from "
        "them goes on.",
    )

    # Logs
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`json` for machines, `text` for people; `auto`: text on a terminal."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged."
    )

    def secret_values(self) -> list[str]:
        """Return what must not be shown anywhere: the database's password and Nomad's token."""
        url = self.database_url.get_secret_value()
        # Without a library that could refuse it: it may be mistyped.
        passwords = re.findall(r"(?:://[^:@/?]*:|[?&]password=)([^@&]+)", url)
        tokens = [self.nomad_token.get_secret_value()] if self.nomad_token else []
        values = {*passwords, *map(unquote, passwords), *tokens}
        # Shorter ones are words that stand in a line for another reason.
        return [value for value in values if len(value) >= _SHORTEST_HIDDEN]

    @field_validator("nomad_servers", "trusted_proxies", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("nomad_address")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")


@cache
def load_settings() -> Settings:
    """Read the settings from the environment and the secrets folder.

    Raises
    ------
    SetupError
        With one line a setting that is missing or wrong; it never shows a value.
    """
    secrets_dir = os.environ.get(SECRETS_DIR_VARIABLE)
    if secrets_dir and not Path(secrets_dir).is_dir():
        raise SetupError(f"{SECRETS_DIR_VARIABLE} names {secrets_dir}, which is not a folder.")
    try:
        return Settings(_secrets_dir=secrets_dir)
    except ValidationError as error:
        lines = [
            f"  {PREFIX}{'_'.join(str(part) for part in fault['loc']).upper()}: "
            f"{'it is not set' if fault['type'] == 'missing' else fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise SetupError(
            "These settings are missing or wrong (docs/admins/settings.md explains each):\n"
            + "\n".join(lines)
        ) from None
