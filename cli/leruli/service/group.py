"""The calls of a group's admins and readers: users, secrets, activity, usage, audit.

An admin calls with an API secret. A reader calls with the group token, which can change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from leruli import settings
from leruli.redaction import remember
from leruli.service.caller import Caller
from leruli.service.connection import Notice
from leruli.service.paging import Page, check_batches, entries_of, pages, pages_of_batch
from leruli.service.queue_client import EventPage, QueueClient, tokens_of


class _GroupCaller(Caller):
    """Base of admin and reader."""

    _secret_field: str

    def _body(self, **fields: Any) -> dict[str, Any]:
        return {self._secret_field: self._secret, **fields}

    def _text(self, answer: Any) -> str:
        if not isinstance(answer, str):
            raise self._connection.nonsense()
        return answer


class GroupAdmin(_GroupCaller):
    """Calls with the API secret of an admin."""

    _secret_field = "adminsecret"  # noqa: S105

    def users(self, *, revoked: bool) -> list[dict[str, Any]]:
        """Return the users; with `revoked` also the revoked ones.

        Each has name, role, keyid, createdat, lastusedat and revokedat.
        """
        answer = self._connection.call("group-list-users", self._body(revoked=revoked))
        return entries_of(self._connection, answer, "users")

    def create_user(self, name: str, *, admin: bool) -> str:
        """Make a user; returns the new API secret. Raises RefusedError."""
        return self._text(
            self._connection.call(
                "group-create-user",
                self._body(name=name, admin=admin),
                unclear=f"It is unknown whether {name} was made. The answer with the secret is "
                f"lost. If `leruli group users` shows {name}, revoke it with `leruli group "
                "revoke-user` and make it again.",
            )
        )

    def revoke_user(self, name: str | None, *, keyid: str | None = None) -> tuple[str, str]:
        """Revoke a user, named by name or by the key id of the secret.

        Returns the name and the time (ISO 8601). Raises NotFoundError and RefusedError.
        """
        answer = self._connection.call(
            "group-revoke-user",
            self._body(**({"name": name} if keyid is None else {"keyid": keyid})),
            unclear=f"It is unknown whether {name or keyid} was revoked: `leruli group users "
            "--revoked` shows it.",
        )
        fields = answer if isinstance(answer, dict) else {}
        return self._text(fields.get("name")), self._text(fields.get("revokedat"))

    def rotate_compute_secret(self) -> str:
        """Make and return a compute secret. The earlier one is invalid at once."""
        return self._text(
            self._connection.call(
                "group-rotate-compute-secret",
                self._body(),
                unclear="It is unknown whether there is a new compute secret. The answer with it "
                "is lost. Run the command again: the secret that it prints is valid.",
            )
        )

    def prepare_token(self) -> str:
        """Return the next group token, which is not valid yet. May be repeated."""
        return self._new_token(prepare=True)

    def begin_token(self, prepared: str) -> None:
        """Make the prepared token valid and the earlier one invalid. May be repeated."""
        self._new_token(newtoken=prepared)

    def _new_token(self, **fields: Any) -> str:
        token = self._text(self._connection.call("group-rotate-token", self._body(**fields)))
        remember(token)
        return token

    def image_tokens(self) -> list[str]:
        """Return the tokens whose buckets may hold images: the group token, then earlier ones."""
        body = {"secret": self._secret}
        return tokens_of(self._connection, self._connection.call("group-image-tokens", body))

    def images_moved(self, token: str) -> None:
        """Report that all images are in the bucket of the group token. May be repeated."""
        self._connection.call("group-images-moved", self._body(grouptoken=token))

    def nodes(self) -> list[dict[str, Any]]:
        """Return the machines of the group, by name."""
        answer = self._connection.call("group-nodes", self._body())
        return entries_of(self._connection, answer, "nodes")

    def drain_node(self, node: str, deadline: float | None) -> dict[str, Any]:
        """Drain a node; its jobs are requeued after `deadline` seconds (None: never)."""
        return self._about_node("group-node-drain", node, deadline=deadline)

    def resume_node(self, node: str) -> dict[str, Any]:
        """Give a drained node jobs again. Raises NotFoundError."""
        return self._about_node("group-node-resume", node)

    def remove_node(self, node: str) -> dict[str, Any]:
        """Remove a node for good. Raises NotFoundError.

        `requeued` in the answer is the number of its jobs that were requeued.
        """
        return self._about_node("group-node-remove", node)

    def _about_node(self, call: str, node: str, **fields: Any) -> dict[str, Any]:
        answer = self._connection.call(call, self._body(node=node, **fields))
        if not isinstance(answer, dict) or "name" not in answer:
            raise self._connection.nonsense()
        return answer

    def audit(self, limit: int | None, after: int | None, **filters: Any) -> Iterator[Page]:
        """Yield the audit entries about users, secrets and others' jobs, newest first.

        `filters` are action, since and until (ISO 8601).
        """
        return pages(
            self._connection, "group-audit", self._body(**filters), "entries", limit, after
        )


class GroupReader(_GroupCaller):
    """Calls with the group token."""

    _secret_field = "grouptoken"  # noqa: S105

    def activity(self, limit: int | None, after: str | None, **filters: Any) -> Iterator[Page]:
        """Yield the jobs of the group, newest first.

        `filters` are states, user, batch (a name, or the first digits of an id), since and until
        (ISO 8601, when a job was received). Raises UnknownCallError for a service that cannot
        choose by batch.
        """
        body = self._body(**filters)
        found = pages(self._connection, "group-activity", body, "jobs", limit, after)
        return pages_of_batch(found, body)

    def nodes(self) -> list[dict[str, Any]]:
        """Return the machines of the group, by name."""
        nodes: list[dict[str, Any]] = []
        after: Any = None
        while True:
            page = {} if after is None else {"after": after}
            answer = self._connection.call("group-nodes", self._body(**page))
            nodes += entries_of(self._connection, answer, "nodes")
            # An older service answers with all nodes at once.
            following = answer.get("next")
            if following is None or following == after:
                return nodes
            after = following

    def events(self, cursor: str | None, wait_s: float = 0.0, **filters: Any) -> EventPage:
        """Return what changed among the group's jobs; `filters` are states, batch and limit.

        As `QueueClient.events`, without buckets.
        """
        body = self._body(cursor=cursor, wait=wait_s, **filters)
        page = EventPage.of(self._connection, self._connection.call("group-events", body))
        check_batches(page.events, body)
        return page

    def usage(
        self, by: Sequence[str], since: str | None, until: str | None, batch: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the number, core-hours and CPU-hours of ended jobs.

        `by` has any of user, code, month and batch. `batch` is a name, or the first digits of an
        id. Raises UnknownCallError for a service that cannot choose by batch.
        """
        body = self._body(by=list(by), since=since, until=until, batch=batch, format="json")
        answer = self._connection.call("group-usage", body)
        rows = entries_of(self._connection, answer, "rows")
        check_batches(rows, body)
        return rows

    def usage_csv(
        self, by: Sequence[str], since: str | None, until: str | None, batch: str | None = None
    ) -> str:
        """Return the answer of `usage` as a CSV table."""
        body = self._body(by=list(by), since=since, until=until, batch=batch, format="csv")
        table = self._connection.call_for_text("group-usage", body)
        check_batches([dict.fromkeys(table.partition("\r\n")[0].split(","))], body)
        return table


def open_reader(notice: Notice = lambda _: None) -> GroupReader:
    """Return a reader of the group. Its token is fetched from the service unless it is set."""
    found = settings.group_settings()
    if found is None:
        with QueueClient(settings.service_settings(), notice) as service:
            token = service.group_token()
        remember(token)
        found = settings.reader_settings(token)
    return GroupReader(found, notice)
