"""The queue's HTTP service.

Every call here may be repeated without harm (a submission is known by its bucket), so each is tried
again, with growing pauses, when the connection fails or the service asks for patience.
"""

from __future__ import annotations

import email.utils
import random
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from leruli._version import __version__
from leruli.errors import AccessRefusedError, LeruliError, NotFoundError, RefusedError, ServiceError
from leruli.settings import ServiceSettings
from leruli.trust import tls_context

#: Jobs that the service takes in one bulk call at most.
BULK_LIMIT = 1000

# Seconds to go on trying: a submission is worth waiting for, a look at the status is not.
_PATIENCE_SUBMIT = 120.0
_PATIENCE = 20.0

_LONGEST_PAUSE = 15.0
_BUSY = frozenset({429, 502, 503, 504})
_FINAL = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True)
class JobRequest:
    """What is submitted for one job."""

    bucket: str
    code: str
    version: str
    cores: int
    memorymb: int
    timelimit: int  #: seconds

    def payload(self, secret: str) -> dict[str, Any]:
        """Return the body of a task-submit call."""
        return {
            "secret": secret,
            "bucketid": self.bucket,
            "name": "default",
            "codeversion": f"{self.code}:{self.version}",
            "cores": self.cores,
            "memorymb": self.memorymb,
            "timelimit": self.timelimit,
        }


@dataclass(frozen=True)
class JobState:
    """The state of a job, and why if there is something to say."""

    status: str
    reason: str | None

    @property
    def is_final(self) -> bool:
        """Whether the job is over and its bucket will not change any more."""
        return self.status in _FINAL

    def __str__(self) -> str:
        return self.status if self.reason is None else f"{self.status}: {self.reason}"


class Service:
    """A connection to the service, for use by several threads at once."""

    def __init__(
        self, settings: ServiceSettings, notice: Callable[[str], None] = lambda _: None
    ) -> None:
        """`notice` is told, in a sentence, whenever a call has to wait."""
        self._settings = settings
        self._notice = notice
        try:
            self._client = httpx.Client(
                base_url=settings.base_url + "/v22_1/",
                timeout=httpx.Timeout(60.0, connect=10.0),
                verify=tls_context(secure=settings.base_url.lower().startswith("https")),
                headers={"User-Agent": f"leruli/{__version__}"},
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            # A proxy named in the environment that httpx cannot use.
            raise ServiceError(
                f"Cannot set up a connection to {settings.base_url}: {error}. Check LERULI_BASEURL "
                "and the proxy settings in your environment."
            ) from None

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def submit(self, job: JobRequest) -> str:
        """Submit a job; returns its id. The same bucket again gives the same id."""
        answer = self._call(
            "task-submit", job.payload(self._settings.secret), patience=_PATIENCE_SUBMIT
        )
        if not isinstance(answer, str):
            raise self._nonsense()
        return answer

    def submit_bulk(self, jobs: Sequence[JobRequest]) -> list[str | LeruliError]:
        """Submit up to `BULK_LIMIT` jobs; returns for each its id or why it was not accepted."""
        if len(jobs) > BULK_LIMIT:
            raise ValueError(f"at most {BULK_LIMIT} jobs in a call, not {len(jobs)}")
        body = [job.payload(self._settings.secret) for job in jobs]
        answer = self._call("bulk/task-submit", body, patience=_PATIENCE_SUBMIT)
        if not isinstance(answer, list) or len(answer) != len(jobs):
            raise self._nonsense()
        return [self._bulk_entry(entry) for entry in answer]

    def status(self, jobid: str) -> JobState:
        """Return the state of a job; raises NotFoundError for unknown and for others' jobs."""
        return self._state(self._call("task-status", self._about(jobid), jobid=jobid))

    def cancel(self, jobid: str) -> JobState:
        """Cancel a job; returns its state after that. Raises NotFoundError, RefusedError."""
        return self._state(self._call("task-cancel", self._about(jobid), jobid=jobid))

    def group_token(self) -> str:
        """Return the token of the caller's group, which names its bucket of images."""
        answer = self._call("group-token", {"secret": self._settings.secret})
        if not isinstance(answer, str):
            raise self._nonsense()
        return answer

    def _about(self, jobid: str) -> dict[str, str]:
        return {"secret": self._settings.secret, "jobid": jobid}

    def _state(self, answer: Any) -> JobState:
        if not isinstance(answer, dict) or not isinstance(answer.get("status"), str):
            raise self._nonsense()
        reason = answer.get("reason")
        return JobState(answer["status"], None if reason is None else str(reason))

    def _bulk_entry(self, entry: Any) -> str | LeruliError:
        if not isinstance(entry, dict) or not isinstance(entry.get("status"), int):
            raise self._nonsense()
        data = entry.get("data")
        if entry["status"] == 200 and isinstance(data, str):
            return data
        return _refusal(entry["status"], _sentence(data or entry.get("detail")), None)

    def _call(
        self, path: str, body: Any, *, patience: float = _PATIENCE, jobid: str | None = None
    ) -> Any:
        if self._settings.patience is not None:
            patience = self._settings.patience
        response = self._post(path, body, patience)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.status_code == 200 and answer is not None:
            return answer
        detail = answer.get("detail") if isinstance(answer, dict) else None
        if detail is None:
            # Not this service's way to say no: a proxy in between, or a wrong address.
            raise self._nonsense(response.status_code)
        text = _sentence(detail)
        request_id = response.headers.get("x-request-id")
        if request_id and response.status_code >= 500:
            text += f" (Quote request {request_id} when you ask for help.)"
        raise _refusal(response.status_code, text, jobid)

    def _post(self, path: str, body: Any, patience: float) -> httpx.Response:
        """POST until an answer other than "busy" comes or `patience` (seconds) is used up."""
        deadline = time.monotonic() + patience
        attempt = 0
        while True:
            # Jitter, so that a thousand clients do not come back at the same moment.
            pause = min(0.5 * 2**attempt, _LONGEST_PAUSE) * random.uniform(0.75, 1.25)  # noqa: S311
            try:
                response = self._client.post(path, json=body)
            except httpx.TransportError as error:
                if _is_certificate_trouble(error):
                    raise self._untrusted(error) from None
                trouble = f"did not answer ({_cause(error)})"
            else:
                if response.status_code not in _BUSY:
                    return response
                trouble = f"is busy or restarting (HTTP {response.status_code})"
                pause = max(pause, _retry_after(response))
            if time.monotonic() + pause > deadline:
                raise ServiceError(
                    f"The queue at {self._settings.base_url} {trouble}, in {attempt + 1} "
                    f"{'try' if attempt == 0 else 'tries'}. Try again later; if it lasts, check "
                    "LERULI_BASEURL and your network."
                ) from None
            self._notice(f"The queue {trouble}; trying again in {pause:.0f} s.")
            time.sleep(pause)
            attempt += 1

    def _untrusted(self, error: Exception) -> ServiceError:
        return ServiceError(
            f"The certificate of {self._settings.base_url} is not trusted: {error}. If your "
            "organisation has a certificate authority of its own, name its file in SSL_CERT_FILE."
        )

    def _nonsense(self, status: int | None = None) -> ServiceError:
        code = f" (HTTP {status})" if status is not None else ""
        return ServiceError(
            f"{self._settings.base_url} answered with something that is not from Leruli Queue"
            f"{code}. Check LERULI_BASEURL and whether a proxy stands in between."
        )


def _refusal(status: int, detail: str, jobid: str | None) -> LeruliError:
    """Return the exception for an answer other than 200."""
    if status == 404 and jobid is not None:
        return NotFoundError(
            f"There is no job {jobid} in your group. Check the id (leruli.job holds the one of its "
            "folder)."
        )
    if status == 403:
        return AccessRefusedError(
            f"The queue did not accept LERULI_API_SECRET for this: {detail} Ask an admin of your "
            "group whether it is still valid."
        )
    if status == 412:
        return AccessRefusedError(f"Your group cannot run jobs yet: {detail}")
    if status >= 500:
        return ServiceError(f"The queue failed (HTTP {status}): {detail} Try again later.")
    return RefusedError(f"The queue refused: {detail}")


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


def _retry_after(response: httpx.Response) -> float:
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


def _cause(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "timeout"
    return str(error) or type(error).__name__
