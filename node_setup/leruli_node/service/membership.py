"""The answer to node-join: this node, Nomad's servers, and the certificate for Nomad's client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cryptography import x509


@dataclass(frozen=True)
class Certificate:
    """A certificate that the service signed, and its validity in seconds."""

    ca: str
    certificate: str
    valid_seconds: float

    @classmethod
    def parse(cls, answer: dict[str, Any]) -> Certificate:
        """Return the certificate in the service's answer.

        Raises
        ------
        KeyError, TypeError, ValueError
            The answer holds no certificate.
        """
        made = cls(str(answer["ca"]), str(answer["certificate"]), float(answer["validseconds"]))
        for text in (made.ca, made.certificate):
            x509.load_pem_x509_certificate(text.encode())
        return made


@dataclass(frozen=True)
class Membership:
    """The answer to node-join, without the node token, which service_api has."""

    nodeid: str
    imageprefix: str
    servers: list[str]
    region: str
    datacenter: str
    pool: str
    introtoken: str
    certificate: Certificate
    report_seconds: float
    # Secrets. An older service sends none.
    imagetokens: object = field(default=None, repr=False)
