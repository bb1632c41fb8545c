"""`leruli-node check`: can this node reach all that it needs? run.sh runs it before the agent."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import httpx

from leruli_node.errors import EXIT_SETTINGS, EXIT_UNREACHABLE, AgentError, describe
from leruli_node.objects.object_store import ObjectStore
from leruli_node.objects.store_errors import (
    NotFoundError,
    StoreRefusedError,
    StoreUnavailableError,
    UnstorableError,
)
from leruli_node.settings import Settings

# In seconds. S3 refuses requests whose clock is 15 minutes off.
_CLOCK_ODD = 30.0
_CLOCK_WRONG = 600.0


def check(settings: Settings) -> list[str]:
    """Check service and store. Return one sentence for each finding.

    Raises
    ------
    AgentError
        The node cannot work: EXIT_UNREACHABLE if waiting may help, EXIT_SETTINGS if a setting is
        wrong.
    """
    found = [_check_service(settings.base_url)]
    found += _check_store(settings)
    return found


def _check_service(base_url: str) -> str:
    """Send an empty node-join: only Leruli Queue answers that with 422."""
    try:
        answer = httpx.post(f"{base_url}/v22_1/node-join", json={}, timeout=15.0)
    except httpx.HTTPError as error:
        if _is_untrusted(error):
            raise AgentError(
                f"the certificate of {base_url} is not trusted: {_why(error)}. If your "
                "organisation has a certificate authority of its own, name its file in "
                "SSL_CERT_FILE.",
                EXIT_UNREACHABLE,
            ) from None
        raise AgentError(
            f"the service at {base_url} cannot be reached ({describe(error)}). Check "
            "LERULI_BASEURL, and that this machine may connect to there.",
            EXIT_UNREACHABLE,
        ) from None
    if answer.status_code != 422:
        raise AgentError(
            f"what answers at {base_url} is not a Leruli Queue that is well (HTTP "
            f"{answer.status_code}). Check LERULI_BASEURL, or ask who runs the service.",
            EXIT_UNREACHABLE,
        )
    offset = _clock_offset(answer.headers.get("Date"))
    if abs(offset) >= _CLOCK_WRONG:
        raise AgentError(
            f"this machine's clock is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} "
            "the service's; the object store would refuse it. Set it, and have it kept right.",
            # After a power cut the clock is wrong until it is set over the network.
            EXIT_UNREACHABLE,
        )
    odd = f"; this machine's clock is {offset:+.0f} s off" if abs(offset) >= _CLOCK_ODD else ""
    return f"the service answers at {base_url}{odd}"


def _is_untrusted(error: BaseException) -> bool:
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def _why(error: BaseException) -> str:
    found = (one for one in _causes(error) if isinstance(one, ssl.SSLCertVerificationError))
    return next(found).verify_message


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _clock_offset(date: str | None) -> float:
    try:
        return time.time() - parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return 0.0


def _check_store(settings: Settings) -> list[str]:
    store = ObjectStore(
        settings.s3_server, settings.s3_access, settings.s3_secret, settings.s3_region
    )
    good = f"the object store answers at {settings.s3_server} and takes the key"
    try:
        store.names(f"code-{settings.group_token}", prefix="no-such-image")
    except NotFoundError as missing:
        if missing.bucket:
            return [good, "the group has no images yet: `leruli publish-code` makes them known"]
    except UnstorableError:
        raise AgentError("LERULI_GROUP_TOKEN is not a group token.", EXIT_SETTINGS) from None
    except StoreRefusedError as error:
        raise AgentError(
            f"the object store at {settings.s3_server} does not let this node in ({error.code}). "
            "Check LERULI_S3_SERVER, LERULI_S3_ACCESS and LERULI_S3_SECRET.",
            EXIT_UNREACHABLE,
        ) from None
    except StoreUnavailableError as error:
        raise AgentError(
            f"the object store at {settings.s3_server} cannot be reached ({error}). "
            "Check LERULI_S3_SERVER, and that this machine may connect to there.",
            EXIT_UNREACHABLE,
        ) from None
    return [good]
