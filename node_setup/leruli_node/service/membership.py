"""What node-join answers: the node, where Nomad is, and the certificate for its client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cryptography import x509


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


@dataclass(frozen=True)
class Membership:
    """What node-join answered, without the node token (service_api has that)."""

    nodeid: str
    imageprefix: str
    servers: list[str]
    region: str
    datacenter: str
    pool: str
    introtoken: str
    certificate: Certificate
    report_seconds: float
    # Secrets; none of an older service.
    imagetokens: object = field(default=None, repr=False)
