"""The settings, all from the environment.

LERULI_API_SECRET      your API secret
LERULI_S3_SERVER       the group's object storage: http://host[:port] or https://host[:port]
LERULI_S3_ACCESS       access key of the object storage
LERULI_S3_SECRET       secret key of the object storage
LERULI_ADMIN_SECRET    the API secret of an admin, for `leruli group`; asked for when it is not set
LERULI_GROUP_TOKEN     the token of the group, to read its activity and usage; by default it is
                       fetched with the API secret
LERULI_BASEURL         the address of the queue, from its operator
LERULI_ALLOW_PLAIN_HTTP  1: addresses with http:// may lead to other machines too
LERULI_S3_REGION       region of the object storage; default: asked of the storage
LERULI_RETRY_SECONDS   retry time: how long to retry if the service does not answer;
                       default 120 for a submission, 20 otherwise
LERULI_DEBUG           1: show a traceback with an error (secrets stay hidden)
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from leruli.errors import SettingsError

# No default: a user without this line would send the secret to the owner of a default address.
SERVICE = ("LERULI_BASEURL", "LERULI_API_SECRET")
STORAGE = ("LERULI_S3_SERVER", "LERULI_S3_ACCESS", "LERULI_S3_SECRET")
ALL = SERVICE + STORAGE

_PLACEHOLDERS = {
    "LERULI_BASEURL": "<the address of your queue, with https://>",
    "LERULI_API_SECRET": "<your API secret>",
    "LERULI_S3_SERVER": "<your S3 server, with http:// or https://>",
    "LERULI_S3_ACCESS": "<your S3 access key>",
    "LERULI_S3_SECRET": "<your S3 secret key>",
}


@dataclass(frozen=True)
class ServiceSettings:
    """The address of the service and the secret for it."""

    base_url: str
    secret: str = field(repr=False)
    #: Retry time in seconds; None: the default of each call.
    retry_for_s: float | None = None
    credential: str = "LERULI_API_SECRET"  #: the name of the secret in sentences
    credential_advice: str = "Ask an admin of your group whether it is still valid."


@dataclass(frozen=True)
class StorageSettings:
    """The address and the keys of the group's object storage."""

    host: str  #: host or host:port
    secure: bool
    access: str = field(repr=False)
    secret: str = field(repr=False)
    region: str | None = None
    #: Retry time in seconds within a batch; None: the default.
    retry_for_s: float | None = None


def _get(name: str) -> str:
    return os.environ.get(name, "").strip()


def missing(names: tuple[str, ...] = ALL) -> list[str]:
    """Return those of `names` that are not set or empty."""
    return [name for name in names if not _get(name)]


def require(names: tuple[str, ...]) -> None:
    """Raise SettingsError unless every one of `names` is set."""
    absent = missing(names)
    if absent:
        raise SettingsError(explain_missing(absent))


def explain_missing(absent: list[str]) -> str:
    """Return a text that names the missing settings and shows the lines that a user needs."""
    verb = "is" if len(absent) == 1 else "are"
    width = max(len(f"export {name}={_PLACEHOLDERS[name]}") for name in ALL)
    lines = []
    for name in ALL:
        line = f"export {name}={_PLACEHOLDERS[name]}"
        lines.append(f"    {line:<{width}}  # missing" if name in absent else f"    {line}")
    return (
        f"{', '.join(absent)} {verb} not set. Leruli Queue needs these lines, for instance in "
        "your ~/.bashrc (ask the contact person of your group for the values):\n\n"
        + "\n".join(lines)
        + _about_base_url(absent)
    )


def _about_base_url(absent: list[str]) -> str:
    if "LERULI_BASEURL" not in absent:
        return ""
    return (
        "\n\nLERULI_BASEURL is the address of the queue that gave you the API secret. There is no "
        "default, because no other queue may get the secret. Leruli's own is https://api.leruli.com."
    )


def service_settings() -> ServiceSettings:
    """Read and check the settings for the service; raises SettingsError."""
    require(SERVICE)
    return ServiceSettings(_base_url(), _get("LERULI_API_SECRET"), _retry_for_s())


def admin_secret() -> str | None:
    """Return the admin's secret, None if it is not set."""
    return _get("LERULI_ADMIN_SECRET") or None


def admin_settings(secret: str) -> ServiceSettings:
    """Read and check the settings for the service as an admin; raises SettingsError."""
    return ServiceSettings(
        _base_url(),
        secret,
        _retry_for_s(),
        credential="LERULI_ADMIN_SECRET" if secret == admin_secret() else "the admin's secret",
        credential_advice="It has to be the API secret of an admin of your group.",
    )


def group_settings() -> ServiceSettings | None:
    """Read the settings of a reader of the group; None if no token is set."""
    token = _get("LERULI_GROUP_TOKEN")
    return reader_settings(token, "LERULI_GROUP_TOKEN") if token else None


def reader_settings(token: str, name: str = "the group token") -> ServiceSettings:
    """Return the settings for the service with a group token; raises SettingsError."""
    return ServiceSettings(
        _base_url(),
        token,
        _retry_for_s(),
        credential=name,
        credential_advice="`leruli group token` prints the token of your group.",
    )


def storage_settings() -> StorageSettings:
    """Read and check the settings for the object storage; raises SettingsError."""
    require(STORAGE)
    parts = _split_url("LERULI_S3_SERVER", _get("LERULI_S3_SERVER").rstrip("/"))
    _refuse_plain_http("LERULI_S3_SERVER", parts)
    if parts.path:
        raise SettingsError(
            "LERULI_S3_SERVER has a path after the host. It must be http://host[:port] or "
            "https://host[:port] and nothing more."
        )
    return StorageSettings(
        host=parts.netloc,
        secure=parts.scheme == "https",
        access=_get("LERULI_S3_ACCESS"),
        secret=_get("LERULI_S3_SECRET"),
        region=storage_region(),
        retry_for_s=_retry_for_s(),
    )


def storage_address() -> str | None:
    """Return the address of the storage for a person; None if it is missing or invalid."""
    try:
        _split_url("LERULI_S3_SERVER", _get("LERULI_S3_SERVER"))
    except SettingsError:
        return None
    return _get("LERULI_S3_SERVER")


def storage_region() -> str | None:
    """Return the region of the storage; None if the storage is to be asked."""
    return _get("LERULI_S3_REGION") or None


def _base_url() -> str:
    require(("LERULI_BASEURL",))
    base_url = _get("LERULI_BASEURL").rstrip("/")
    _refuse_plain_http("LERULI_BASEURL", _split_url("LERULI_BASEURL", base_url))
    return base_url


def allows_plain_http() -> bool:
    """Whether http:// may lead to other machines."""
    return _get("LERULI_ALLOW_PLAIN_HTTP") not in ("", "0")


def _refuse_plain_http(name: str, parts: SplitResult) -> None:
    if parts.scheme == "https" or _is_loopback(parts.hostname or "") or allows_plain_http():
        return
    raise SettingsError(
        f"{name} begins with http://, so everybody on the way could read your secrets or your "
        "files. Use https://. In a network that you trust, set LERULI_ALLOW_PLAIN_HTTP=1."
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: only DNS knows its address
        return False


def debugging() -> bool:
    """Whether to print tracebacks."""
    return _get("LERULI_DEBUG") not in ("", "0")


def _split_url(name: str, url: str) -> SplitResult:
    # No sentence quotes the value: people paste credentials into URLs.
    advice = f"Set {name} to a URL such as https://host.example.org or http://10.0.0.1:9000."
    if not url.lower().startswith(("http://", "https://")):
        raise SettingsError(f"{name} does not begin with http:// or https://. {advice}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise SettingsError(f"{name} is not a valid URL. {advice}") from None
    if not host or parts.query or parts.fragment or any(c.isspace() for c in url):
        raise SettingsError(f"{name} is not a valid URL. {advice}")
    if "@" in parts.netloc:
        raise SettingsError(
            f"{name} holds a user name or password before the host. Leave it out: credentials "
            "have settings of their own."
        )
    return parts


def _retry_for_s() -> float | None:
    text = _get("LERULI_RETRY_SECONDS")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise SettingsError("LERULI_RETRY_SECONDS must be a number of seconds, 0 or more.")
    return seconds
