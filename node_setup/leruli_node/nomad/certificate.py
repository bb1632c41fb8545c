"""The certificate of Nomad's client. Its key is made here and never leaves this node."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from leruli_node.clock import boottime
from leruli_node.folders import write_file
from leruli_node.service.membership import Certificate

log = logging.getLogger(__name__)

# Seconds between two renewals that a wrong wall clock causes: not one with every report.
_AGAIN = 300.0


class NodeTls:
    """Key and certificate of one run of the agent, in files that Nomad reads.

    Each start of the agent makes a new key, which all renewals keep. A renewal therefore replaces
    one file, and Nomad never reads a certificate and a key that do not match.
    """

    def __init__(self, folder: Path) -> None:
        self.ca_file = folder / "ca.pem"
        self.certificate_file = folder / "node.pem"
        self.key_file = folder / "node-key.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._written_at: float | None = None
        self._life = 0.0
        self._not_after = 0.0

    def request(self) -> str:
        """Return a signing request as PEM. The service takes only the public key from it."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM).decode()

    def write_first(self, certificate: Certificate) -> None:
        """Write key and certificate. Nomad must not run: it could read only one of them."""
        key = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_file(self.key_file, key)
        self.write(certificate)

    def write(self, certificate: Certificate) -> None:
        """Write a certificate for the present key."""
        write_file(self.ca_file, certificate.ca.encode())
        write_file(self.certificate_file, certificate.certificate.encode())
        self._life = certificate.valid_seconds
        self._not_after = _not_after(certificate.certificate)
        self._written_at = boottime()

    def is_due(self) -> bool:
        """Return whether the next certificate is due.

        It is due after a third of the certificate's life, suspended time included. It is also due
        when the wall clock, which Nomad uses, was set and says that less than two thirds are left.
        """
        if self._written_at is None:
            return False
        age = boottime() - self._written_at
        if age >= self._life / 3:
            return True
        return age >= min(_AGAIN, self._life / 6) and (
            self._not_after - time.time() <= self._life * 2 / 3
        )


def _not_after(pem: str) -> float:
    """Return the end of a certificate's validity, in seconds since 1970."""
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp()
