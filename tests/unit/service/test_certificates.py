"""Certificates that the authority signs, and those that it never signs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from leruli_queue.commands.tls_init import command
from leruli_queue.errors import SetupError, UserReportableError
from leruli_queue.nodes.certificates import Authority, load_authority, make_authority
from leruli_queue.nodes.tls_folder import TlsFolder

DAY = timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


def request_with(key: Key, *names: str) -> str:
    """A signing request with names. An honest node's request has none."""
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if names else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()


def names_of(certificate: x509.Certificate) -> set[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in found}


def usages_of(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_a_node_gets_only_the_names_of_a_client(authority: Authority) -> None:
    key, node_id = ec.generate_private_key(ec.SECP256R1()), uuid4()
    request = request_with(key, "server.global.nomad", "cli.global.nomad")
    signed = x509.load_pem_x509_certificate(
        authority.sign_node(request, node_id, "global", DAY).encode()
    )
    signed.verify_directly_issued_by(authority.certificate)
    assert signed.public_key() == key.public_key()
    assert names_of(signed) == {"client.global.nomad", "localhost", "127.0.0.1"}
    assert signed.subject.rfc4514_string() == f"CN=node {node_id}"
    assert not signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert usages_of(signed) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    left = signed.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(hours=23, minutes=59) < left <= DAY


@pytest.mark.parametrize(
    ("request_text", "why"),
    [
        ("nothing", "PKCS#10"),
        ("ä", "PKCS#10"),
        (request_with(rsa.generate_private_key(65537, 2048)), "P-256"),
        (request_with(ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (request_with(ed25519.Ed25519PrivateKey.generate()), "P-256"),
    ],
)
def test_an_invalid_signing_request_is_refused(
    authority: Authority, request_text: str, why: str
) -> None:
    with pytest.raises(UserReportableError, match=why) as refusal:
        authority.sign_node(request_text, uuid4(), "global", DAY)
    assert refusal.value.status == 422


def test_a_request_for_another_key_is_refused(authority: Authority) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    der = x509.load_pem_x509_csr(request_with(other).encode()).public_bytes(
        serialization.Encoding.DER
    )
    forged = der[:-1] + bytes([der[-1] ^ 1])  # the signature is at the end
    pem = x509.load_der_x509_csr(forged).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(UserReportableError, match="not signed by the key"):
        authority.sign_node(pem, uuid4(), "global", DAY)


def test_tls_init_makes_the_authority_once_and_renews_the_others(tmp_path: Path) -> None:
    folder = TlsFolder(tmp_path / "tls")
    arguments = [str(folder.folder), "--server", "nomad.example.org", "--server", "10.0.0.7"]
    first = CliRunner().invoke(command, arguments)
    assert first.exit_code == 0, first.output
    assert "Made the authority" in first.output
    authority, server = folder.ca.read_text(), folder.server.read_text()
    second = CliRunner().invoke(command, arguments)
    assert "Kept the authority" in second.output
    assert folder.ca.read_text() == authority
    assert folder.server.read_text() != server

    made = x509.load_pem_x509_certificate(folder.server.read_bytes())
    hosts = {"localhost", "127.0.0.1", "nomad.example.org", "10.0.0.7"}
    assert names_of(made) == hosts | {"server.global.nomad"}
    assert usages_of(made) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    broker = x509.load_pem_x509_certificate(folder.broker.read_bytes())
    assert names_of(broker) == {"cli.global.nomad"}
    assert usages_of(broker) == {ExtendedKeyUsageOID.CLIENT_AUTH}
    for key in (folder.ca_key, folder.server_key, folder.broker_key):
        assert key.stat().st_mode & 0o777 == 0o600
        assert key.read_text() not in first.output


def test_an_authority_with_another_authoritys_key_is_refused(tmp_path: Path) -> None:
    one, other = TlsFolder(tmp_path / "one"), TlsFolder(tmp_path / "other")
    for folder in (one, other):
        folder.renew("global", (), days=1)
    with pytest.raises(SetupError, match="not the"):
        load_authority(one.ca, other.ca_key)
    with pytest.raises(SetupError, match="cannot be read"):
        load_authority(one.ca, tmp_path / "nowhere.pem")
    with pytest.raises(SetupError, match="not PEM"):
        load_authority(one.ca_key, one.ca)
