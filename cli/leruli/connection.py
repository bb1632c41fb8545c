"""One HTTP connection to the queue's service: calls, patience, and what answers mean.

Over urllib3, which the storage's SDK brings anyway, and which takes half as long to import as
others. Most calls may be repeated without harm (a submission is known by its bucket), so each is
tried again, with growing pauses, when the connection fails or the service asks for patience. A call
that may not be repeated says so with `unclear`: it is tried again only while it is certain that the
service did not act on it.
"""

from __future__ import annotations

import email.utils
import json
import random
import ssl
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxyError
from urllib3.exceptions import TimeoutError as HTTPTimeoutError

from leruli._version import __version__
from leruli.errors import (
    AccessRefusedError,
    LeruliError,
    NotFoundError,
    RefusedError,
    SecretRefusedError,
    ServiceError,
    UnknownCallError,
)
from leruli.settings import ServiceSettings
from leruli.trust import speaks_plain_http, tls_context

_PATIENCE = 20.0  # seconds
_LONGEST_PAUSE = 15.0

_TIMEOUT = urllib3.Timeout(connect=10.0, read=60.0)
# More than the threads of a batch: of further ones urllib3 complains in the log.
_CONNECTIONS = 16

# The service was not reached, or says that it did nothing yet.
_NOT_SENT = (NewConnectionError, ConnectTimeoutError, ProxyError)
_NOT_DONE = frozenset({429, 503})
# A proxy's: the service may have acted all the same.
_PERHAPS_DONE = frozenset({502, 504})

# What the service says of a path that it does not have.
_NO_SUCH_CALL = "Not Found."

#: Told a sentence whenever a call has to wait.
Notice = Callable[[str], None]


class Connection:
    """A connection to the service, for use by several threads at once."""

    def __init__(self, settings: ServiceSettings, notice: Notice = lambda _: None) -> None:
        self.settings = settings
        self._notice = notice
        self._pool = _pool(settings.base_url)

    def close(self) -> None:
        """Close what is open."""
        self._pool.clear()

    def call(
        self,
        path: str,
        body: Any,
        *,
        patience: float = _PATIENCE,
        jobid: str | None = None,
        unclear: str | None = None,
        progress: Callable[[], str] | None = None,
    ) -> Any:
        """Return the document that the service answers.

        `patience` is how many seconds to go on trying, unless a setting says otherwise; `jobid`
        the job that a 404 is about. `unclear` makes this a call that is not repeated once it may
        have been done, and says what to do then. `progress` makes this a call that is repeated for
        as long as the service answers that it should be, and says how far all is: a sentence.

        Raises SecretRefusedError (403), NotFoundError (404), AccessRefusedError (412),
        RefusedError (other 4xx) and ServiceError.
        """
        response = self._post(path, body, patience, unclear, progress)
        answer = _document(response)
        if response.status == 200 and answer is not None:
            return answer
        raise self._refusal(response, answer, jobid)

    def call_for_text(self, path: str, body: Any) -> str:
        """Return an answer that is no JSON document, such as a CSV table; raises as `call` does."""
        response = self._post(path, body, _PATIENCE)
        if response.status == 200 and response.headers.get("content-type", "").startswith(
            "text/csv"
        ):
            return response.data.decode("utf-8", "replace")
        raise self._refusal(response, _document(response), None)

    def refusal(
        self, status: int, detail: Any, *, jobid: str | None = None, remark: str = ""
    ) -> LeruliError:
        """Return the exception for a refusal, of a call or of one entry of a bulk call."""
        text = _sentence(detail) + remark
        if status == 404 and text == _NO_SUCH_CALL:
            return UnknownCallError(
                f"The queue at {self.settings.base_url} does not know this call. It is of an older "
                "version than this client, or LERULI_BASEURL names something else."
            )
        if status == 404:
            return NotFoundError(
                text
                if jobid is None
                else f"There is no job {jobid} in your group, or it is not yours. Check the id "
                "(leruli.job holds the one of its folder)."
            )
        if status == 403:
            return SecretRefusedError(
                f"The queue did not accept {self.settings.credential} for this: {text} "
                f"{self.settings.credential_advice}"
            )
        if status == 412:
            return AccessRefusedError(f"Your group cannot run jobs yet: {text}")
        if status >= 500:
            return ServiceError(f"The queue failed (HTTP {status}): {text} Try again later.")
        return RefusedError(f"The queue refused: {text}")

    def nonsense(self, status: int | None = None) -> ServiceError:
        """Return the exception for an answer that this service would not give."""
        code = f" (HTTP {status})" if status is not None else ""
        return ServiceError(
            f"{self.settings.base_url} answered with something that is not from Leruli Queue"
            f"{code}. Check LERULI_BASEURL and whether a proxy stands in between."
        )

    def _refusal(
        self, response: urllib3.BaseHTTPResponse, answer: Any, jobid: str | None
    ) -> LeruliError:
        status = response.status
        detail = answer.get("detail") if isinstance(answer, dict) else None
        if detail is None:
            # Not this service's way to say no: a proxy in between, or a wrong address.
            return self.nonsense(status)
        remark = ""
        request_id = response.headers.get("x-request-id")
        if request_id and status >= 500:
            remark = f" (Quote request {request_id} when you ask for help.)"
        return self.refusal(status, detail, jobid=jobid, remark=remark)

    def _post(
        self,
        path: str,
        body: Any,
        patience: float,
        unclear: str | None = None,
        progress: Callable[[], str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """POST until an answer other than "busy" comes or `patience` (seconds) is used up."""
        if self.settings.patience is not None:
            patience = self.settings.patience
        url = f"{self.settings.base_url}/v22_1/{path}"
        content = json.dumps(body).encode()
        deadline = time.monotonic() + patience
        tries = failures = 0
        while True:
            tries += 1
            # Jitter, so that a thousand clients do not come back at the same moment.
            pause = min(0.5 * 2**failures, _LONGEST_PAUSE) * random.uniform(0.75, 1.25)  # noqa: S311
            failures += 1
            said, wanted = "", 0.0
            try:
                response = self._pool.request("POST", url, body=content, redirect=False)
            except HTTPError as error:
                if speaks_plain_http(error):
                    raise self._plain() from None
                if _is_certificate_trouble(error):
                    raise self._untrusted(error) from None
                trouble = f"did not answer ({_cause(error)})"
                if unclear is not None and not isinstance(error, _NOT_SENT):
                    raise self._unclear(trouble, unclear) from None
            else:
                status = response.status
                if status not in _NOT_DONE and status not in _PERHAPS_DONE:
                    return response
                said = _said(response)
                trouble = f"is busy{'' if said else ' or restarting'} (HTTP {status})"
                if unclear is not None and status in _PERHAPS_DONE:
                    raise self._unclear(trouble, unclear)
                wanted = _retry_after(response)
                pause = max(pause, wanted)
                if progress is not None and said and status == 503 and wanted and patience:
                    # It is there, and says when to come again: that takes none of the patience
                    # with a queue that is not.
                    said = f"{said} {progress()}"
                    deadline = time.monotonic() + pause + patience
                    failures = 0
            left = deadline - time.monotonic()
            if left <= 0 or wanted > left:
                raise self._exhausted(trouble, tries, said) from None
            # The last try is made when the time is up, and not before.
            pause = min(pause, left)
            self._notice(f"The queue {trouble}; trying again in {pause:.0f} s. {said}".rstrip())
            time.sleep(pause)

    def _exhausted(self, trouble: str, tries: int, said: str) -> ServiceError:
        advice = "Try again later; if it lasts, check LERULI_BASEURL and your network."
        return ServiceError(
            f"The queue at {self.settings.base_url} {trouble}, in {tries} "
            f"{'try' if tries == 1 else 'tries'}. {said or advice}"
        )

    def _unclear(self, trouble: str, unclear: str) -> ServiceError:
        return ServiceError(f"The queue at {self.settings.base_url} {trouble}. {unclear}")

    def _plain(self) -> ServiceError:
        host = urlsplit(self.settings.base_url).netloc
        return ServiceError(
            f"What answers at {host} speaks http:// and LERULI_BASEURL begins with https://. Set "
            f"it to http://{host}, or ask the operator of the queue for its https:// address."
        )

    def _untrusted(self, error: Exception) -> ServiceError:
        return ServiceError(
            f"The certificate of {self.settings.base_url} is not trusted: {error}. If your "
            "organisation has a certificate authority of its own, name its file in SSL_CERT_FILE."
        )


def _pool(base_url: str) -> urllib3.PoolManager:
    """Return connections to an address, through the proxy that the environment names for it."""
    parts = urlsplit(base_url)
    options: dict[str, Any] = {
        "maxsize": _CONNECTIONS,
        "timeout": _TIMEOUT,
        # Whether a call may be made again is decided here, and not in the library.
        "retries": False,
        "ssl_context": tls_context(secure=parts.scheme == "https"),
        "headers": {"User-Agent": f"leruli/{__version__}", "Content-Type": "application/json"},
    }
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return urllib3.PoolManager(**options)
    try:
        return _proxied(proxy if "://" in proxy else f"http://{proxy}", options)
    except (ValueError, HTTPError):
        # Neither quoted: it may hold a password.
        raise ServiceError(
            f"Cannot set up a connection to {base_url}: the proxy that your environment names for "
            "it cannot be used. It has to be http://host:port or https://host:port: check "
            f"{parts.scheme}_proxy and all_proxy, or except the host in no_proxy."
        ) from None


def _proxied(proxy: str, options: dict[str, Any]) -> urllib3.PoolManager:
    """Return connections through a proxy; raises ValueError or HTTPError for an unfit one."""
    parts = urlsplit(proxy)
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=pair)
    if parts.scheme == "https":
        options["proxy_ssl_context"] = tls_context(secure=True)
    return urllib3.proxy_from_url(proxy, **options)


def _document(response: urllib3.BaseHTTPResponse) -> Any:
    try:
        return json.loads(response.data)
    except ValueError:
        return None


def _said(response: urllib3.BaseHTTPResponse) -> str:
    """Return the service's own sentence; nothing of what a proxy says in its place."""
    answer = _document(response)
    detail = answer.get("detail") if isinstance(answer, dict) else None
    return "" if detail is None else _sentence(detail)


def _sentence(detail: Any) -> str:
    """`detail` of an answer as one sentence; the form that FastAPI gives it is a list."""
    if isinstance(detail, list):
        parts = []
        for item in detail:
            if isinstance(item, dict):
                where = ".".join(str(part) for part in item.get("loc", ()) if part != "body")
                parts.append(f"{where}: {item.get('msg', 'not valid')}")
        text = "; ".join(parts)
    else:
        text = str(detail or "").strip()
    text = text or "it gave no reason"
    return text if text.endswith((".", "!", "?")) else text + "."


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    """Seconds that the service asks to wait (a number or a date), 0 if it does not say."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def _is_certificate_trouble(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _cause(error: HTTPError) -> str:
    """Return the gist of a failure, without the address that urllib3 puts before it."""
    if isinstance(error, HTTPTimeoutError) and not isinstance(error, NewConnectionError):
        return "timeout"
    text = str(error.args[-1]) if error.args else ""
    return text.rpartition(": ")[2] or type(error).__name__
