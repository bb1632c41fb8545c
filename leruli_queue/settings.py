"""Every setting of the service: environment variables named ``LERULI_QUEUE_<FIELD>``.

A value can also be in a file ``leruli_queue_<field>`` of the folder that
``LERULI_QUEUE_SECRETS_DIR`` names, as container platforms mount secrets. The environment wins.
docs/admins/settings.md has the same settings as a table; a test compares the two.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from leruli_queue.errors import SetupError
from leruli_queue.mail_settings import MailSettings

PREFIX = "LERULI_QUEUE_"
SECRETS_DIR_VARIABLE = f"{PREFIX}SECRETS_DIR"
_SHORTEST_HIDDEN = 8


class Settings(MailSettings):
    """The settings of ``serve`` and ``dispatch``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    # Database
    database_url: SecretStr = Field(
        description="Address of PostgreSQL, `postgresql://user:password@host:port/database`."
    )
    database_pool_size: int = Field(
        10, ge=2, le=500, description="Connections that one process has to PostgreSQL."
    )
    database_timeout_s: float = Field(
        30.0, gt=0, description="Timeout in seconds of a connect to, or statement in, PostgreSQL."
    )

    busy_after_s: float = Field(
        5.0,
        gt=0,
        description="Seconds that a request waits for a free connection to PostgreSQL. Then it is "
        "answered with 503 and Retry-After.",
    )

    # HTTP
    listen_host: str = Field("127.0.0.1", description="Address that `serve` listens on.")
    allow_plain_http: bool = Field(
        False,
        description="Whether `serve` may listen on another address than loopback. It speaks "
        "plain http, so traffic to a proxy with TLS can be read. Only in a network that you trust.",
    )
    listen_port: int = Field(8022, ge=1, le=65535, description="Port that `serve` listens on.")
    listen_workers: int = Field(1, ge=1, le=64, description="Processes of one `serve`.")
    max_body_bytes: int = Field(
        4_000_000,
        ge=10_000,
        description="Most bytes of a request's body; a larger one is refused (413).",
    )
    max_held_bytes: int = Field(
        100_000_000,
        ge=1_000_000,
        description="Most bytes of all bodies that one process holds. If it is exceeded, the body "
        "that has been arriving for longest is refused (503).",
    )
    max_connections: int = Field(
        4000,
        ge=10,
        description="Most connections of clients to one process. If it is exceeded, the one whose "
        "request has been awaited for longest is closed. The limit of open files may lower it.",
    )
    header_timeout_s: float = Field(
        10.0,
        gt=0,
        description="Seconds that a connection may be open without a complete request header.",
    )
    body_timeout_s: float = Field(
        60.0, gt=0, description="Seconds in which a request's body must arrive (else 408)."
    )

    trusted_proxies: Annotated[list[str], NoDecode] = Field(
        ["127.0.0.1"],
        description="Addresses or networks of proxies whose X-Forwarded-For is trusted, separated "
        "by commas.",
    )
    refusal_delay_s: float = Field(
        5.0,
        ge=0,
        le=60,
        description="Longest delay in seconds of the answer to a wrong secret, after several from "
        "the same address or with the same key id.",
    )
    max_delayed_refusals: int = Field(
        200,
        ge=0,
        description="Answers that one process delays at the same time; more get 429 at once.",
    )

    node_package: Path | None = Field(
        None,
        description="The file nomadrun.tar (`make dist`) that `/nomadrun.tar` answers.",
    )

    # Limits of a job
    max_bulk: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="Most jobs in one bulk/task-submit.",
    )
    max_bulk_secrets: int = Field(
        10, ge=1, description="Most different API secrets in one bulk/task-submit."
    )
    max_waiting: int = Field(
        2_000_000,
        ge=1,
        description="Most jobs of one group in the backlog; more are answered with 503 and "
        "Retry-After. While there is capacity for one job, a whole request is accepted. So each "
        "process of `serve` may exceed the limit by one request.",
    )
    max_waiting_user: int = Field(
        1_000_000,
        ge=1,
        description="The same for the jobs of one user, so that one user cannot use up the "
        "group's capacity.",
    )
    max_cores: int = Field(1024, ge=1, description="Most cores that one job may ask for.")
    max_memory_mb: int = Field(
        16_000_000, ge=16, description="Most memory in MB that one job may ask for."
    )
    default_disk_mb: int = Field(
        100_000,
        ge=16,
        description="Disk limit in MB of a job that asks for none.",
    )
    max_disk_mb: int = Field(
        16_000_000, ge=16, description="Largest disk limit in MB that one job may ask for."
    )
    max_time_limit_s: int = Field(
        366 * 86400, ge=1, description="Longest time limit in seconds that one job may ask for."
    )
    max_attempts: int = Field(
        5,
        ge=1,
        le=100,
        description="Attempts that may be lost by failures of the platform; then the job fails.",
    )
    retry_delay_s: float = Field(
        30.0,
        ge=0,
        description="Seconds before a job is tried again after a failure of the platform. Doubles "
        "each time, up to an hour.",
    )
    node_failures: int = Field(
        3,
        ge=1,
        le=100,
        description="Different jobs in a row that a node may fail before their command runs. Then "
        "it is quarantined: it gets only probes, one job at a time.",
    )
    node_probe_s: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="Seconds until a quarantined node is probed. Doubles after each failed probe.",
    )
    node_probe_max_s: float = Field(
        3600.0, gt=0, description="Longest pause in seconds between two probes of a node."
    )

    # Nomad
    nomad_address: str = Field(
        "https://127.0.0.1:4646",
        pattern="^https://",
        description="Address of Nomad's HTTP API (any server), always https.",
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
    nomad_timeout_s: float = Field(10.0, gt=0, description="Timeout in seconds of a call to Nomad.")
    nomad_ca_file: Path = Field(
        Path("/etc/leruli-queue/tls/ca.pem"),
        description="Certificate of the authority that Nomad's servers and nodes trust "
        "(`leruli-queue tls-init` makes this one and the next three).",
    )
    nomad_ca_key_file: Path = Field(
        Path("/etc/leruli-queue/tls/ca-key.pem"),
        description="Key of the authority, with which `serve` signs the certificates of nodes.",
    )
    nomad_cert_file: Path = Field(
        Path("/etc/leruli-queue/tls/broker.pem"),
        description="Certificate with which the service calls Nomad.",
    )
    nomad_key_file: Path = Field(
        Path("/etc/leruli-queue/tls/broker-key.pem"), description="Key of this certificate."
    )
    nomad_clusters_dir: Path | None = Field(
        None,
        description="Folder with one folder for each further Nomad cluster, for groups with their "
        "own cluster (docs/admins/operate.md).",
    )

    # Nodes
    node_certificate_s: float = Field(
        86400.0,
        ge=60,
        le=30 * 86400,
        description="Validity in seconds of a node's certificate; it is renewed after a third.",
    )
    node_report_s: float = Field(
        15.0, gt=0, le=60, description="Seconds between two reports of a node to the service."
    )

    node_unseen_s: float = Field(
        86400.0,
        ge=600,
        description="Seconds without a report and without a sign of life in Nomad. Then the "
        "dispatcher ignores the node until it is back.",
    )
    group_nodes: int = Field(
        5000,
        ge=1,
        description="Most nodes of one group; nodes unseen for LERULI_QUEUE_NODE_UNSEEN_S do not "
        "count. A further machine is answered with 503 and Retry-After.",
    )
    node_joins_a_minute: int = Field(
        600,
        ge=1,
        description="Most calls of node-join of one group in a minute, in each process of `serve`; "
        "more are answered with 503 and Retry-After.",
    )
    node_max_cores: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="Most cores that a machine may claim when it joins; more are refused (422).",
    )
    node_max_memory_mb: int = Field(
        32_000_000,
        ge=64,
        le=2**31 - 1,
        description="Most memory in MB that a machine may claim when it joins; more is refused "
        "(422).",
    )

    # Dispatcher
    window_min: int = Field(
        4, ge=1, description="Smallest window: unplaced jobs that a group may always have in Nomad."
    )
    window_max: int = Field(
        200, ge=1, description="Most unplaced jobs of all groups together in Nomad."
    )
    slot_max_s: float = Field(
        300.0,
        ge=0,
        description="Seconds for which a slot on a node begins one job of a group after the other. "
        "Then Nomad chooses again what runs there. 0: Nomad places every job.",
    )
    slot_wait_s: float = Field(
        1.0,
        ge=0,
        description="Seconds that a dispatched job waits for room on a node before a slot there "
        "ends for it.",
    )
    place_patience_s: float = Field(
        600.0,
        gt=0,
        description="Seconds that a job may be unplaced, while smaller jobs of its group are "
        "placed. Then a node is reserved for it.",
    )
    dispatch_concurrency: int = Field(
        4, ge=1, le=64, description="Dispatches to Nomad at the same time."
    )
    feed_interval_s: float = Field(
        0.25,
        gt=0,
        description="Seconds between two polls of the backlog. Down to a quarter of it after a "
        "poll that found jobs, and none if dispatching them took as long.",
    )
    reconcile_interval_s: float = Field(
        120.0, gt=0, description="Seconds between two full comparisons with Nomad."
    )
    keep_events_s: float = Field(
        3600.0,
        ge=60,
        description="Seconds for which events are kept. A client that was away for longer reads "
        "the status of its jobs instead.",
    )
    receipt_grace_s: float = Field(
        900.0,
        ge=0,
        description="Seconds after the end of an allocation in which its receipt must arrive. Then "
        "the attempt is abandoned, and the job runs again.",
    )
    start_grace_s: float = Field(
        900.0,
        gt=0,
        description="Seconds in which a node must ask for the start grant of an attempt that was "
        "placed on it. Then the job is dispatched again. Set it above the agent's retry time "
        "(LERULI_NODE_PATIENCE_SECONDS).",
    )
    node_silence_s: float = Field(
        80.0,
        ge=0,
        description="Seconds that a node may be silent, after Nomad noticed it (20 to 30 s), "
        "before its jobs go to other nodes. One of these nodes must have been heard for the same "
        "time. A node whose agent has not reported for this time (at least four reports), while "
        "others of the cluster have, gets no new jobs.",
    )
    drain_deadline_s: float = Field(
        60.0, ge=0, description="Seconds until the jobs of a leaving node are stopped."
    )
    parent_idle_s: float = Field(
        7 * 86400.0,
        gt=0,
        description="Seconds after which an unused parent job is removed from Nomad.",
    )

    group_parents: int = Field(
        2000,
        ge=100,
        description="Most parent jobs of one group in Nomad, a few for each image, cores and "
        "memory. For a new one, those unused for longest are removed; their dispatched jobs "
        "continue.",
    )

    # Logs
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`json` for machines, `text` for people; `auto`: text on a terminal."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest severity that is logged."
    )

    def secret_values(self) -> list[str]:
        """Return the values that must never be shown: passwords, and Nomad's token."""
        url = self.database_url.get_secret_value()
        # Not parsed by a library, which could refuse a mistyped URL.
        passwords = re.findall(r"(?:://[^:@/?]*:|[?&]password=)([^@&]+)", url)
        secrets = (self.nomad_token, self.smtp_password)
        tokens = [secret.get_secret_value() for secret in secrets if secret]
        values = {*passwords, *map(unquote, passwords), *tokens}
        # A shorter value may be a word that is in a line for another reason.
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
        When settings are missing or wrong, with one line for each. It never shows a value.
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
