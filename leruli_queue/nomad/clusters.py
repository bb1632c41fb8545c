"""The Nomad clusters that this service uses, each with its address, credentials and authority.

The settings describe one cluster (:data:`DEFAULT`). The folder LERULI_QUEUE_NOMAD_CLUSTERS_DIR
describes more, for groups that must not share a cluster with others. The database knows a cluster
only by its name, so a dump holds no address and no credential.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import structlog
from cryptography import x509
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

from leruli_queue.errors import SetupError
from leruli_queue.settings import Settings

log = structlog.get_logger(__name__)

# A certificate that ends sooner is logged, once a day.
_SOON = timedelta(days=21)
_logged: dict[Path, datetime] = {}

DEFAULT = "default"
"""The name of the cluster that the settings describe; groups are in it by default."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_Address = Annotated[str, StringConstraints(pattern=r"^https://[^/\s]+$")]


@dataclass(frozen=True)
class Cluster:
    """The addresses and keys of one Nomad cluster."""

    name: str
    address: str
    token: SecretStr | None
    namespace: str
    region: str
    datacenter: str
    # RPC addresses of the servers, as nodes reach them.
    servers: tuple[str, ...]
    timeout_s: float
    # The certificate authority of the cluster, and its key. Only `serve` needs the key.
    ca_file: Path
    ca_key_file: Path
    # The service's own certificate and key.
    cert_file: Path
    key_file: Path

    def tls(self) -> ssl.SSLContext:
        """Return a new TLS context for Nomad, from the files: they are renewed in place.

        Raises
        ------
        SetupError
            When a file is missing or cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as error:  # ssl.SSLError is one
            raise SetupError(
                f"The certificates for the Nomad cluster {self.name} cannot be used "
                f"({error.strerror or error}): {self.ca_file}, {self.cert_file}, {self.key_file}. "
                "`leruli-queue tls-init` makes them."
            ) from error
        _warn_before_end(self.name, self.cert_file)
        return context


def _warn_before_end(cluster: str, path: Path) -> None:
    now = datetime.now(UTC)
    left = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc - now
    if left < _SOON and now - _logged.get(path, datetime.min.replace(tzinfo=UTC)) > timedelta(
        days=1
    ):
        _logged[path] = now
        log.warning(
            "a certificate ends soon: run `leruli-queue tls-init` again, which renews those of the "
            "service and of Nomad's servers",
            cluster=cluster,
            file=str(path),
            days_left=round(left / timedelta(days=1), 1),
        )


class _Described(BaseModel):
    """``cluster.json`` of a further cluster."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    address: _Address
    servers: list[str] = Field(min_length=1)
    namespace: str = "leruli"
    region: str = "global"
    datacenter: str = "dc1"


def read_clusters(settings: Settings) -> dict[str, Cluster]:
    """Return the clusters by name, the default one first.

    Raises
    ------
    SetupError
        When the description of a further cluster is wrong.
    """
    clusters = {DEFAULT: _default(settings)}
    folder = settings.nomad_clusters_dir
    if folder is None:
        return clusters
    if not folder.is_dir():
        raise SetupError(f"LERULI_QUEUE_NOMAD_CLUSTERS_DIR names {folder}, which is not a folder.")
    for path in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        if path.name.startswith("."):  # a container platform puts these beside mounted secrets
            continue
        if not _NAME.fullmatch(path.name) or path.name == DEFAULT:
            raise SetupError(
                f"{path} cannot be a cluster: a name has up to 31 lower-case letters, digits and "
                f"hyphens, and is not {DEFAULT}."
            )
        clusters[path.name] = _further(path, settings)
    return clusters


def _default(settings: Settings) -> Cluster:
    return Cluster(
        name=DEFAULT,
        address=settings.nomad_address,
        token=settings.nomad_token,
        namespace=settings.nomad_namespace,
        region=settings.nomad_region,
        datacenter=settings.nomad_datacenter,
        servers=tuple(settings.nomad_servers),
        timeout_s=settings.nomad_timeout_s,
        ca_file=settings.nomad_ca_file,
        ca_key_file=settings.nomad_ca_key_file,
        cert_file=settings.nomad_cert_file,
        key_file=settings.nomad_key_file,
    )


def _further(folder: Path, settings: Settings) -> Cluster:
    try:
        described = _Described.model_validate_json((folder / "cluster.json").read_bytes())
        token = (folder / "token").read_text(encoding="ascii").strip()
    except OSError as error:
        raise SetupError(f"{error.filename} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        where = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise SetupError(f"{folder / 'cluster.json'} is not as described: {where}.") from None
    except ValueError:
        raise SetupError(f"{folder / 'token'} is not a token of Nomad.") from None
    return Cluster(
        name=folder.name,
        address=described.address,
        token=SecretStr(token),
        namespace=described.namespace,
        region=described.region,
        datacenter=described.datacenter,
        servers=tuple(described.servers),
        timeout_s=settings.nomad_timeout_s,
        ca_file=folder / "ca.pem",
        ca_key_file=folder / "ca-key.pem",
        cert_file=folder / "broker.pem",
        key_file=folder / "broker-key.pem",
    )
