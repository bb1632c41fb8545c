"""The certificate of Nomad's client: the key is made here and never leaves this node."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from leruli_node.folders import write_file

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Certificate:
    """What the service signed, and for how many seconds it is valid."""

    ca: str
    certificate: str
    valid_seconds: float

    @classmethod
    def parse(cls, answer: dict[str, Any]) -> Certificate:
        """From the service's answer; KeyError, TypeError or ValueError when it is not one."""
        made = cls(str(answer["ca"]), str(answer["certificate"]), float(answer["validseconds"]))
        for text in (made.ca, made.certificate):
            x509.load_pem_x509_certificate(text.encode())
        return made


class NodeTls:
    """Key and certificate of one run of the agent, as files that Nomad reads.

    The key is new with each start of the agent, and the same for every renewal, so that a renewal
    replaces one file and Nomad never finds a certificate and a key that do not belong together.
    """

    def __init__(self, folder: Path) -> None:
        self.ca_file = folder / "ca.pem"
        self.certificate_file = folder / "node.pem"
        self.key_file = folder / "node-key.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._renew_at: float | None = None

    def request(self) -> str:
        """A signing request, PEM. The service takes only the public key from it."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM).decode()

    def keep_first(self, certificate: Certificate) -> None:
        """Write key and certificate, while no Nomad runs that could read half of it."""
        key = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_file(self.key_file, key)
        self.keep(certificate)

    def keep(self, certificate: Certificate) -> None:
        """Write a certificate for the key that is there; the next is due after a third."""
        write_file(self.ca_file, certificate.ca.encode())
        write_file(self.certificate_file, certificate.certificate.encode())
        self._renew_at = time.monotonic() + certificate.valid_seconds / 3

    def is_due(self) -> bool:
        """Whether it is time for the next certificate."""
        return self._renew_at is not None and time.monotonic() >= self._renew_at
