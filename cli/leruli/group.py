"""What a group's admins and readers ask of the queue: users, secrets, activity, usage, audit.

Admins are known by the API secret of an admin, readers by the group token, which can change
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from leruli.connection import Connection, Notice
from leruli.settings import ServiceSettings

# Entries that the service gives in one page at most.
_LARGEST_PAGE = 1000


class Page(NamedTuple):
    """Some entries of a listing, and where the next page begins."""

    entries: list[dict[str, Any]]
    next: Any  #: `after` of the next page; None on the last one


class _Caller:
    """One of the two kinds; closes its connection as a context manager."""

    _secret_field: str

    def __init__(self, settings: ServiceSettings, notice: Notice = lambda _: None) -> None:
        """`notice` is told, in a sentence, whenever a call has to wait."""
        self._connection = Connection(settings, notice)
        self._secret = settings.secret

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _body(self, **fields: Any) -> dict[str, Any]:
        return {self._secret_field: self._secret, **fields}

    def _text(self, answer: Any) -> str:
        if not isinstance(answer, str):
            raise self._connection.nonsense()
        return answer

    def _entries(self, answer: Any, name: str) -> list[dict[str, Any]]:
        found = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self._connection.nonsense()
        return found

    def _pages(
        self, path: str, name: str, filters: dict[str, Any], limit: int | None, after: Any
    ) -> Iterator[Page]:
        """Yield a listing page by page, up to `limit` entries; None: to the end."""
        left = limit
        while True:
            size = _LARGEST_PAGE if left is None else min(left, _LARGEST_PAGE)
            answer = self._connection.call(path, self._body(**filters, limit=size, after=after))
            page = Page(self._entries(answer, name), answer.get("next"))
            yield page
            if left is not None:
                left -= len(page.entries)
            if page.next is None or (left is not None and left <= 0):
                return
            after = page.next


class GroupAdmin(_Caller):
    """The group as an admin of it sees it."""

    _secret_field = "adminsecret"  # noqa: S105

    def users(self, *, revoked: bool) -> list[dict[str, Any]]:
        """Return the users: name, role, createdat, lastusedat, revokedat; `revoked`: those too."""
        answer = self._connection.call("group-list-users", self._body(revoked=revoked))
        return self._entries(answer, "users")

    def create_user(self, name: str, *, admin: bool) -> str:
        """Make a user; returns the new API secret. Raises RefusedError."""
        return self._text(
            self._connection.call(
                "group-create-user",
                self._body(name=name, admin=admin),
                unclear=f"Whether {name} was made is not known, and a secret that was made is lost "
                f"with the answer. Look with `leruli group users`; if {name} is there, revoke it "
                "with `leruli group revoke-user` and make it again.",
            )
        )

    def revoke_user(self, name: str) -> str:
        """End a user's secret; returns when (ISO 8601). Raises NotFoundError, RefusedError."""
        answer = self._connection.call(
            "group-revoke-user",
            self._body(name=name),
            unclear=f"Whether {name} was revoked is not known: look with `leruli group users "
            "--revoked`.",
        )
        return self._text(answer.get("revokedat") if isinstance(answer, dict) else None)

    def rotate_compute_secret(self) -> str:
        """Make the first or the next compute secret; returns it. The old one ends at once."""
        return self._text(
            self._connection.call(
                "group-rotate-compute-secret",
                self._body(),
                unclear="Whether there is a new compute secret is not known; if there is, it is "
                "lost with the answer. Run the command again: the secret that it prints counts.",
            )
        )

    def audit(self, limit: int | None, after: int | None, **filters: Any) -> Iterator[Page]:
        """Yield what was done with users, secrets and others' jobs, newest first.

        `filters` are action, since and until (ISO 8601).
        """
        return self._pages("group-audit", "entries", filters, limit, after)


class GroupReader(_Caller):
    """The group as the holder of its token sees it."""

    _secret_field = "grouptoken"  # noqa: S105

    def activity(self, limit: int | None, after: str | None, **filters: Any) -> Iterator[Page]:
        """Yield the jobs of the group, newest first.

        `filters` are states, user, since and until (ISO 8601, by when a job was received).
        """
        return self._pages("group-activity", "jobs", filters, limit, after)

    def usage(
        self, by: Sequence[str], since: str | None, until: str | None
    ) -> list[dict[str, Any]]:
        """Return jobs and core-hours by any of user, code and month, of jobs that have ended."""
        body = self._body(by=list(by), since=since, until=until, format="json")
        return self._entries(self._connection.call("group-usage", body), "rows")

    def usage_csv(self, by: Sequence[str], since: str | None, until: str | None) -> str:
        """Return the same as a CSV table."""
        body = self._body(by=list(by), since=since, until=until, format="csv")
        return self._connection.call_for_text("group-usage", body)
