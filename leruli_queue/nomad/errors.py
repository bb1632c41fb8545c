"""How a call to Nomad fails, for all libraries that make calls."""

from __future__ import annotations

import re
import ssl
from http import HTTPStatus

# OpenSSL's error numbers for a server's certificate.
_OTHER_NAME = {62, 64}
_EXPIRED = {10}
_GONE = re.compile(r"\b(job|node|alloc)\b.*\bnot found|^500: Specified job .* is stopped")


class NomadError(Exception):
    """A call to Nomad failed. The message is Nomad's own.

    A user's job is never the cause, because all calls are made from our template. Either Nomad is
    away, or it refuses access, or the call has a defect of ours.
    """


class NomadForbiddenError(NomadError):
    """Nomad refuses the call, and will refuse it until somebody changes the set-up."""


class NomadNotFoundError(NomadError):
    """The object of the call does not exist in Nomad, or was stopped there."""


class NomadAwayError(NomadError):
    """Nomad cannot be reached or did not answer in time. It may have done the call all the same."""


def refusal(status: int, body: str) -> NomadError:
    """Return the error for an answer of Nomad that is not a success."""
    text = f"{status}: {body.strip()[:500]}"
    if status == HTTPStatus.FORBIDDEN:
        return NomadForbiddenError(f"Nomad refuses the service's token ({text})")
    if "nonexistent namespace" in text:
        return NomadForbiddenError(f"Nomad does not have the service's namespace ({text})")
    # Most of Nomad's API answers with 500 in these cases.
    if status == HTTPStatus.NOT_FOUND or _GONE.search(text):
        return NomadNotFoundError(text)
    return NomadError(text)


def unreachable(error: BaseException) -> NomadAwayError:
    """Return the error for a connection that failed, for an exception of any library."""
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
    """Return OpenSSL's own error from inside the errors that libraries wrapped around it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        # aiohttp's own error is an SSLError too, but without the number.
        inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        if inner is None and isinstance(error, ssl.SSLError):
            return error
        named = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        reason = getattr(error, "reason", None)  # urllib3's
        follows = reason if isinstance(reason, BaseException) else None
        error = inner or named or follows or error.__cause__ or error.__context__
    return None
