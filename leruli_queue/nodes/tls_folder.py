"""The folder of a cluster's certificates, as ``leruli-queue tls-init`` makes it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from leruli_queue.errors import SetupError
from leruli_queue.nodes.certificates import load_authority, make_authority


@dataclass(frozen=True)
class TlsFolder:
    """Paths below the folder."""

    folder: Path

    @property
    def ca(self) -> Path:
        """Certificate of the authority; every part of the cluster has it."""
        return self.folder / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """The authority's key. Only the service may read it."""
        return self.folder / "ca-key.pem"

    @property
    def server(self) -> Path:
        """Certificate of the Nomad servers."""
        return self.folder / "server.pem"

    @property
    def server_key(self) -> Path:
        """Its key."""
        return self.folder / "server-key.pem"

    @property
    def broker(self) -> Path:
        """Certificate with which the service calls Nomad."""
        return self.folder / "broker.pem"

    @property
    def broker_key(self) -> Path:
        """Its key."""
        return self.folder / "broker-key.pem"

    def renew(self, region: str, hosts: Sequence[str], *, days: int) -> bool:
        """Make the certificates of servers and service, and the authority if it is missing.

        Returns
        -------
        bool
            Whether the authority was made.

        Raises
        ------
        SetupError
            When the folder cannot be written, or the authority in it cannot be used.
        """
        try:
            return self._renew(region, hosts, timedelta(days=days))
        except OSError as error:
            raise SetupError(
                f"{error.filename or self.folder} cannot be written: {error.strerror}."
            ) from error

    def _renew(self, region: str, hosts: Sequence[str], lifetime: timedelta) -> bool:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The key is written first. After a crash, a key without a certificate is simply replaced.
        is_new = not self.ca.exists()
        if is_new:
            authority = make_authority()
            _write(self.ca_key, authority.key_pem, mode=0o600)
            _write(self.ca, authority.pem, mode=0o644)
        authority = load_authority(self.ca, self.ca_key)
        for certificate, key, issued in (
            (self.server, self.server_key, authority.sign_server(region, hosts, lifetime)),
            (self.broker, self.broker_key, authority.sign_broker(region, lifetime)),
        ):
            _write(key, issued.key, mode=0o600)
            _write(certificate, issued.certificate, mode=0o644)
        return is_new


def _write(path: Path, text: str, *, mode: int) -> None:
    """Write a file whole or not at all. It has its final mode from the start."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
