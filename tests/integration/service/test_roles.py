"""Every route with every kind of secret: the answers must match access/roles.py."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from mail_world import with_mail
from service_world import (
    GroupOfTest,
    claim_jobs,
    make_group,
    make_jobs,
    make_node_with_token,
    running_service,
    signing_request,
)
from starlette.routing import BaseRoute, Route

from leruli_queue.access.roles import RULES, Call, Effect, Role, Whose
from leruli_queue.access.secrets import SecretType, make
from leruli_queue.api.app import create_app
from leruli_queue.groups.users import create_user, revoke_user
from leruli_queue.jobs.attempts import AttemptId, start_attempt
from leruli_queue.jobs.intake import NewBatch
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

_names = (f"group {number}" for number in itertools.count(1))


@dataclass
class Person:
    """A caller with a secret: the role that it should have, and whether the job is its own."""

    secrets: dict[str, str]  # by field; "" stands for all other fields
    role: Role | None = None
    owns_the_job: bool = False
    of_the_group: bool = True

    def secret_in(self, field: str) -> str:
        return self.secrets.get(field, self.secrets.get("", ""))


@dataclass
class World:
    """A group with a job of its user, in a batch, and all kinds of callers."""

    group: GroupOfTest
    people: dict[str, Person]
    job_id: UUID
    bucket: str
    attempt: AttemptId
    batch_id: UUID


async def make_world(pool: Pool) -> World:
    group, foreign = await make_group(pool, next(_names)), await make_group(pool, next(_names))
    async with pool.acquire() as connection:
        other, revoked, _ = [
            await create_user(connection, group.id, group.token, name=name, is_admin=False)
            for name in ("other", "revoked", "victim")
        ]
        admin_id = await connection.fetchval(
            "SELECT id FROM users WHERE group_id = $1 AND role = 'admin'", group.id
        )
        await revoke_user(connection, group.id, "revoked", by=admin_id)
        await create_user(connection, foreign.id, foreign.token, name="victim", is_admin=False)
    node, node_token = await make_node_with_token(pool, group)
    _, foreign_node_token = await make_node_with_token(pool, foreign)
    batch_id = uuid4()
    [job_id] = await make_jobs(pool, group, 1, batch=NewBatch(batch_id, "scan"))
    [claim] = await claim_jobs(pool, group, 1)
    attempt = AttemptId(job_id, claim["number"])
    people = {
        "malformed": Person({"": group.admin_secret[:-1] + "8"}),
        "unknown": Person({"": make(SecretType.API).text}),
        "group token": Person({"": group.token}, Role.READER),
        "user": Person({"": group.user_secret}, Role.USER, owns_the_job=True),
        "other user": Person({"": other}, Role.USER),
        "admin": Person({"": group.admin_secret}, Role.ADMIN),
        "revoked": Person({"": revoked}),
        "foreign group token": Person({"": foreign.token}, Role.READER, of_the_group=False),
        "foreign user": Person({"": foreign.user_secret}, Role.USER, of_the_group=False),
        "foreign admin": Person({"": foreign.admin_secret}, Role.ADMIN, of_the_group=False),
        "compute secret": Person({"": group.compute_secret}),
        "machine": Person({"": group.token, "computesecret": group.compute_secret}, Role.MACHINE),
        "machine with a foreign token": Person(
            {"": foreign.token, "computesecret": group.compute_secret}
        ),
        "node": Person({"": node_token}, Role.NODE, owns_the_job=True),
        "foreign node": Person({"": foreign_node_token}, Role.NODE, of_the_group=False),
    }
    await start_attempt(pool, node, attempt, "startkey")
    bucket = await pool.fetchval("SELECT bucket FROM jobs WHERE id = $1", job_id)
    return World(group, people, job_id, bucket, attempt, batch_id)


def fields_beside_the_secret(call: Call, world: World) -> dict[str, Any]:
    job = {"jobid": str(world.job_id)}
    attempt = job | {"attempt": world.attempt.number}
    batch = {"batchid": str(world.batch_id)}
    submit = {"bucketid": str(uuid4()), "codeversion": "psi4:1.5"}
    return {
        Call.TASK_CHECK: {"jobs": [submit]},
        Call.TASK_SUBMIT: submit,
        Call.BULK_TASK_SUBMIT: submit,
        Call.TASK_STATUS: job,
        Call.TASK_FOLLOW: job,
        Call.TASK_CANCEL: job,
        Call.TASK_BUCKET: job,
        Call.TASK_DETAIL: job,
        Call.TASK_RESOLVE: {"reference": "default"},
        Call.BULK_TASK_STATUS: {"jobids": [job["jobid"]]},
        Call.BULK_TASK_CANCEL: {"jobids": [job["jobid"]]},
        Call.BULK_TASK_FIND: {"bucketids": [world.bucket]},
        Call.TASK_REPORT: batch,
        Call.BATCH_STATUS: batch,
        Call.BATCH_CANCEL: batch,
        # Mail about an unknown batch is never due. So anybody may ask for it.
        Call.BATCH_MAIL: batch | {"address": "ada@example.org", "complete": True},
        Call.GROUP_CREATE_USER: {"name": f"new {uuid4().hex}"},
        Call.GROUP_REVOKE_USER: {"name": "victim"},
        Call.GROUP_NODE_DRAIN: {"node": "machine"},
        Call.GROUP_NODE_RESUME: {"node": "machine"},
        Call.GROUP_NODE_REMOVE: {"node": "machine"},
        Call.NODE_JOIN: {
            "name": "machine",
            "cores": 1,
            "memorymb": 1000,
            "csr": signing_request(),
        },
        Call.NODE_CERTIFICATE: {"csr": signing_request()},
        Call.ATTEMPT_START: attempt | {"startkey": "startkey"},
        Call.ATTEMPT_UPLOAD: attempt,
        Call.ATTEMPT_END: attempt | {"outcome": "ended", "exitcode": 0},
    }.get(call, {})


def expected_status(call: Call, person: Person) -> int:
    """The answer that the table prescribes."""
    rule = RULES[call]
    if Role.ANYBODY in rule.may:
        return 200
    whose = None if person.role is None else rule.may.get(person.role)
    if whose is None:
        return 403
    if call.startswith("attempt-"):  # 409: an attempt that the node may not run
        return 200 if person.owns_the_job else 409
    is_about_a_job = call in {
        Call.TASK_STATUS,
        Call.TASK_FOLLOW,
        Call.TASK_CANCEL,
        Call.TASK_BUCKET,
        Call.TASK_DETAIL,
        Call.BULK_TASK_STATUS,
        Call.BULK_TASK_CANCEL,
        Call.BULK_TASK_FIND,
        Call.TASK_REPORT,
        Call.BATCH_STATUS,
        Call.BATCH_CANCEL,
    }
    if is_about_a_job:
        sees_it = person.owns_the_job if whose is Whose.OWN else person.of_the_group
        return 200 if sees_it else 404
    return 200


async def ask(
    service: httpx.AsyncClient, call: Call, body: dict[str, Any]
) -> tuple[int, dict[str, Any] | str]:
    """The status of the answer; for a bulk call the status of its single job."""
    if Role.ANYBODY in RULES[call].may:
        return (await service.get(f"/{call}")).status_code, ""
    sent = [body] if call is Call.BULK_TASK_SUBMIT else body
    answer = await service.post(f"/v22_1/{call}", json=sent)
    if call.startswith("bulk/") and answer.status_code == 200:
        return answer.json()[0]["status"], answer.json()[0]["data"]
    return answer.status_code, answer.json()


@pytest.mark.parametrize("call", list(Call))
async def test_every_secret_may_do_what_the_table_says(
    nomad_settings: Settings, pool: Pool, tmp_path: Path, call: Call
) -> None:
    package = tmp_path / "nomadrun.tar"
    package.touch()
    settings = with_mail(nomad_settings, refusal_delay_s=0, node_package=package)
    rule = RULES[call]
    async with running_service(settings) as service:
        world = await make_world(pool)
        for name in world.people:
            if "machine" in name and "computesecret" not in rule.fields:
                continue  # in other calls the group token decides
            if rule.effect is not Effect.READS:
                world = await make_world(pool)  # the last call may have changed it
            person = world.people[name]
            body = fields_beside_the_secret(call, world)
            body |= {field: person.secret_in(field) for field in rule.fields}
            status, answer = await ask(service, call, body)
            assert status == expected_status(call, person), (name, answer)
        status, answer = await ask(service, call, fields_beside_the_secret(call, world))
        assert status == (422 if rule.fields else 200), answer


def test_every_route_is_in_the_table_and_the_table_has_no_other(settings: Settings) -> None:
    assert set(paths_of(create_app(settings).routes)) == {f"/{call}" for call in Call}
    assert set(RULES) == set(Call)


def paths_of(routes: Iterable[BaseRoute]) -> Iterator[str]:
    for route in routes:
        included = getattr(route, "original_router", None)  # FastAPI's attribute of include_router
        if included is not None:
            yield from paths_of(included.routes)
        else:
            assert isinstance(route, Route)
            yield route.path
