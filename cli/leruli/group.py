"""What a group's admins and readers ask of the queue: users, secrets, activity, usage, audit.

Admins are known by the API secret of an admin, readers by the group token, which can change
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from leruli import settings
from leruli.api import Service, tokens_of
from leruli.connection import Connection, Notice
from leruli.paging import Page, entries_of, pages
from leruli.redaction import remember
from leruli.settings import ServiceSettings


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


class GroupAdmin(_Caller):
    """The group as an admin of it sees it."""

    _secret_field = "adminsecret"  # noqa: S105

    def users(self, *, revoked: bool) -> list[dict[str, Any]]:
        """Return the users: name, role, createdat, lastusedat, revokedat; `revoked`: those too."""
        answer = self._connection.call("group-list-users", self._body(revoked=revoked))
        return entries_of(self._connection, answer, "users")

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

    def revoke_user(self, name: str | None, *, keyid: str | None = None) -> tuple[str, str]:
        """End the secret of a user, known by name or by the secret's key id.

        Returns the name, and when (ISO 8601). Raises NotFoundError, RefusedError.
        """
        answer = self._connection.call(
            "group-revoke-user",
            self._body(**({"name": name} if keyid is None else {"keyid": keyid})),
            unclear=f"Whether {name or keyid} was revoked is not known: look with `leruli group "
            "users --revoked`.",
        )
        fields = answer if isinstance(answer, dict) else {}
        return self._text(fields.get("name")), self._text(fields.get("revokedat"))

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

    def prepare_token(self) -> str:
        """Return the next group token, which is not valid yet. Repeating it changes nothing."""
        return self._new_token(prepare=True)

    def begin_token(self, prepared: str) -> None:
        """Let the prepared token be the group's; the old one ends. Repeating changes nothing."""
        self._new_token(newtoken=prepared)

    def _new_token(self, **fields: Any) -> str:
        token = self._text(self._connection.call("group-rotate-token", self._body(**fields)))
        remember(token)
        return token

    def image_tokens(self) -> list[str]:
        """Return the tokens whose buckets may hold images: the group token, then rotated ones."""
        body = {"secret": self._secret}
        return tokens_of(self._connection, self._connection.call("group-image-tokens", body))

    def images_moved(self, token: str) -> None:
        """Say that all images are in the bucket of the group token. Repeating changes nothing."""
        self._connection.call("group-images-moved", self._body(grouptoken=token))

    def nodes(self) -> list[dict[str, Any]]:
        """Return the machines of the group, by name."""
        answer = self._connection.call("group-nodes", self._body())
        return entries_of(self._connection, answer, "nodes")

    def drain_node(self, node: str, deadline: float | None) -> dict[str, Any]:
        """Give a node no more jobs; what runs is stopped after `deadline` seconds, None: never."""
        return self._about_node("group-node-drain", node, deadline=deadline)

    def resume_node(self, node: str) -> dict[str, Any]:
        """Give a drained node jobs again. Raises NotFoundError."""
        return self._about_node("group-node-resume", node)

    def remove_node(self, node: str) -> dict[str, Any]:
        """Remove a node for good; `requeued` in the answer counts its jobs. NotFoundError."""
        return self._about_node("group-node-remove", node)

    def _about_node(self, call: str, node: str, **fields: Any) -> dict[str, Any]:
        answer = self._connection.call(call, self._body(node=node, **fields))
        if not isinstance(answer, dict) or "name" not in answer:
            raise self._connection.nonsense()
        return answer

    def audit(self, limit: int | None, after: int | None, **filters: Any) -> Iterator[Page]:
        """Yield what was done with users, secrets and others' jobs, newest first.

        `filters` are action, since and until (ISO 8601).
        """
        return pages(
            self._connection, "group-audit", self._body(**filters), "entries", limit, after
        )


class GroupReader(_Caller):
    """The group as the holder of its token sees it."""

    _secret_field = "grouptoken"  # noqa: S105

    def activity(self, limit: int | None, after: str | None, **filters: Any) -> Iterator[Page]:
        """Yield the jobs of the group, newest first.

        `filters` are states, user, since and until (ISO 8601, by when a job was received).
        """
        return pages(
            self._connection, "group-activity", self._body(**filters), "jobs", limit, after
        )

    def nodes(self) -> list[dict[str, Any]]:
        """Return the machines of the group, by name."""
        nodes: list[dict[str, Any]] = []
        after: Any = None
        while True:
            page = {} if after is None else {"after": after}
            answer = self._connection.call("group-nodes", self._body(**page))
            nodes += entries_of(self._connection, answer, "nodes")
            # An older service gives all of them at once.
            following = answer.get("next")
            if following is None or following == after:
                return nodes
            after = following

    def usage(
        self, by: Sequence[str], since: str | None, until: str | None
    ) -> list[dict[str, Any]]:
        """Return jobs and core-hours by any of user, code and month, of jobs that have ended."""
        body = self._body(by=list(by), since=since, until=until, format="json")
        return entries_of(self._connection, self._connection.call("group-usage", body), "rows")

    def usage_csv(self, by: Sequence[str], since: str | None, until: str | None) -> str:
        """Return the same as a CSV table."""
        body = self._body(by=list(by), since=since, until=until, format="csv")
        return self._connection.call_for_text("group-usage", body)


def open_reader(notice: Notice = lambda _: None) -> GroupReader:
    """Return the group as its token shows it; the token is fetched if it is not set."""
    found = settings.group_settings()
    if found is None:
        with Service(settings.service_settings(), notice) as service:
            token = service.group_token()
        remember(token)
        found = settings.reader_settings(token)
    return GroupReader(found, notice)
