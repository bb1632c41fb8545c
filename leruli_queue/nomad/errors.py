"""How a call to Nomad fails, whichever library made it."""

from __future__ import annotations

import re
import ssl
from http import HTTPStatus

# OpenSSL's numbers for what is wrong with a server's certificate.
_OTHER_NAME = {62, 64}
_EXPIRED = {10}
_GONE = re.compile(r"\b(job|node|alloc)\b.*\bnot found|^500: Specified job .* is stopped")


class NomadError(Exception):
    """A call to Nomad failed. The message is Nomad's own.

    It never says anything about a user's job, for what is sent is made from our template: Nomad is
    away, does not let us in, or has a defect of ours before it.
    """


class NomadForbiddenError(NomadError):
    """Nomad does not let the service do it, and will not until somebody changes the set-up."""


class NomadNotFoundError(NomadError):
    """What was asked for does not exist in Nomad, or was stopped there."""


class NomadAwayError(NomadError):
    """Nomad cannot be reached, or did not answer in time: whether it did it is not known."""


def refusal(status: int, body: str) -> NomadError:
    """Return the error that an answer of Nomad's stands for."""
    text = f"{status}: {body.strip()[:500]}"
    if status == HTTPStatus.FORBIDDEN:
        return NomadForbiddenError(f"Nomad refuses the service's token ({text})")
    if "nonexistent namespace" in text:
        return NomadForbiddenError(f"Nomad does not have the service's namespace ({text})")
    # Most of Nomad's API says these with a 500.
    if status == HTTPStatus.NOT_FOUND or _GONE.search(text):
        return NomadNotFoundError(text)
    return NomadError(text)


def unreachable(error: BaseException) -> NomadAwayError:
    """Return the error for a connection that failed, whichever library tried to make it."""
    cause = _tls_error(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in _OTHER_NAME:
            return NomadAwayError(
                "The certificate of Nomad's server is not for this address: "
                f"{cause.verify_message} Use an address that is in it, or make one for this one "
                "(`leruli-queue tls-init --server`)"
            )
        if cause.verify_code in _EXPIRED:
            return NomadAwayError(
                "The certificate of Nomad's server has expired: `leruli-queue tls-init` renews it"
            )
        return NomadAwayError(
            "The certificate of Nomad's server is of another authority than the service's CA file "
            f"({cause.verify_message})"
        )
    if isinstance(cause, ssl.SSLError):
        return NomadAwayError(f"Nomad cannot be reached by TLS: {cause.reason or cause}")
    return NomadAwayError(f"Nomad cannot be reached: {type(error).__name__}")


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return OpenSSL's own error among those that the libraries wrapped around it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        # aiohttp's own is an SSLError as well, without the number.
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        if inner is None and isinstance(error, ssl.SSLError):
            return error
        named = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        reason = getattr(error, "reason", None)  # urllib3's
        follows = reason if isinstance(reason, BaseException) else None
        error = inner or named or follows or error.__cause__ or error.__context__
    return None
