"""The certificate authority of a Nomad cluster, whose traffic is mutual TLS.

- Nomad tells servers from clients by a name in their certificate. The holder of
  ``server.<region>.nomad`` may act as a server, so only :meth:`Authority.sign_server` issues it.
- A node sends a signing request, made with a key that never leaves the node. Only the public key of
  the request is used; the service chooses every name in the certificate.
- A certificate is not bound to a node: any node may present any of them. So it is valid for a short
  time, and renewed only for a node that joined with the group's current compute secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from leruli_queue.errors import SetupError, UserReportableError

AUTHORITY_DAYS = 3650
_CLOCK_SKEW = timedelta(minutes=5)
_LOOPBACK = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, both PEM."""

    certificate: str
    key: str


@dataclass(frozen=True)
class Authority:
    """A certificate authority: its own certificate, and the key with which it signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """The authority's own certificate, which every part of the cluster trusts."""
        return _pem(self.certificate)

    @property
    def key_pem(self) -> str:
        """The key with which it signs. Its holder can act as any part of the cluster."""
        return key_pem(self.key)

    def sign_server(self, region: str, hosts: Sequence[str], lifetime: timedelta) -> Issued:
        """Make the certificate of the region's servers, valid for these host names and addresses.

        It is for both ends of a connection, because servers also call each other.
        """
        name = f"server.{region}.nomad"
        return self._make(name, [name, *_LOOPBACK, *hosts], lifetime, server=True)

    def sign_broker(self, region: str, lifetime: timedelta) -> Issued:
        """Make the certificate with which the service and the dispatcher call Nomad's HTTP API."""
        name = f"cli.{region}.nomad"
        return self._make(name, [name], lifetime, server=False)

    def sign_node(self, request: str, node_id: UUID, region: str, lifetime: timedelta) -> str:
        """Return the certificate for the key of a node's signing request, as PEM.

        Raises
        ------
        UserReportableError
            422 when the text is not a request, is not signed by its own key, or the key is not on
            the curve P-256.
        """
        try:
            parsed = x509.load_pem_x509_csr(request.encode("ascii"))
            proven = parsed.is_signature_valid
            key = parsed.public_key()
        # Any exception: a request can hold anything, and the library has no class for all faults.
        except Exception:
            raise _unusable("it is not a PKCS#10 request in PEM") from None
        if not proven:
            raise _unusable("it is not signed by the key that it names")
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(
            key.curve, ec.SECP256R1
        ):
            raise _unusable("its key is not an elliptic one on the curve P-256")
        names = [f"client.{region}.nomad", *_LOOPBACK]
        # Also for a server's end: its own machine calls a node's client, and servers call it
        # through the client's own connection.
        return _pem(self._sign(key, f"node {node_id}", names, lifetime, server=True))

    def _make(
        self, common_name: str, names: Sequence[str], lifetime: timedelta, *, server: bool
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._sign(key.public_key(), common_name, names, lifetime, server=server)
        return Issued(_pem(signed), key_pem(key))

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        common_name: str,
        names: Sequence[str],
        lifetime: timedelta,
        *,
        server: bool,
    ) -> x509.Certificate:
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if server:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        issuer = self.certificate.public_key()
        return (
            _builder(common_name, lifetime)
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in dict.fromkeys(names)]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer),  # type: ignore[arg-type]
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )


@dataclass(frozen=True)
class NodeSigner:
    """Signs the certificate requests of one cluster's nodes."""

    authority: Authority
    region: str
    lifetime: timedelta

    def sign(self, request: str, node_id: UUID) -> str:
        """Return the certificate for a signing request; see :meth:`Authority.sign_node`."""
        return self.authority.sign_node(request, node_id, self.region, self.lifetime)


def make_authority() -> Authority:
    """Make a new authority, valid for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = "Leruli Queue nodes"
    certificate = (
        _builder(name, timedelta(days=AUTHORITY_DAYS))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def load_authority(certificate_file: Path, key_file: Path) -> Authority:
    """Read an authority from its two PEM files.

    Raises
    ------
    SetupError
        When they cannot be read, are not what they should be, or do not belong together.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except OSError as error:
        raise SetupError(
            f"{error.filename} cannot be read: {error.strerror}. `leruli-queue tls-init` makes it."
        ) from error
    except (ValueError, TypeError) as error:
        raise SetupError(
            f"{certificate_file} or {key_file} is not PEM, or the key has a password. "
            "`leruli-queue tls-init` makes both."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise SetupError(f"{key_file} is not the (elliptic) key of {certificate_file}.")
    return Authority(certificate, key)


def _builder(common_name: str, lifetime: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .serial_number(x509.random_serial_number())
        # The clocks of machines differ.
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Return a key as PEM (PKCS#8), not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _unusable(why: str) -> UserReportableError:
    return UserReportableError(f"The signing request (csr) cannot be used: {why}.", status=422)
