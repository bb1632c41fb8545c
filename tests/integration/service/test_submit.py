from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from service_world import GroupOfTest, make_group, running_service

from leruli_queue.access.authenticate import authenticate_user
from leruli_queue.access.roles import RULES
from leruli_queue.access.secrets import SecretType, make
from leruli_queue.api.schemas.agents import AttemptEnd
from leruli_queue.jobs.intake import BucketInUseError, NewJob, submit_jobs
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


def job(group: GroupOfTest, **changes: Any) -> dict[str, Any]:
    return {
        "secret": group.user_secret,
        "bucketid": str(uuid4()),
        "name": "default",
        "codeversion": "psi4:1.3.2",
        "cores": 1,
        "memorymb": 4000,
        "timelimit": 86400,
    } | changes


@pytest.mark.parametrize("version", ["v22_1", "latest"])
async def test_a_job_is_received(
    service: httpx.AsyncClient, group: GroupOfTest, version: str
) -> None:
    answer = await service.post(f"/{version}/task-submit", json=job(group))
    assert answer.status_code == 200
    assert isinstance(answer.json(), str)
    status = await service.post(
        f"/{version}/task-status", json={"secret": group.user_secret, "jobid": answer.json()}
    )
    assert status.json() == {
        "status": "received",
        "reason": "waiting for a node: no machine of the group is connected",
    }


async def test_the_same_bucket_again_is_the_same_job(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    body = job(group)
    answers = await asyncio.gather(
        *(service.post("/v22_1/task-submit", json=body) for _ in range(8))
    )
    answers.append(await service.post("/v22_1/bulk/task-submit", json=[body, job(group), body]))
    ids = {answer.json() for answer in answers[:-1]}
    assert len(ids) == 1
    in_bulk = [entry["data"] for entry in answers[-1].json()]
    assert in_bulk[0] == in_bulk[2] == ids.pop()
    assert await pool.fetchval("SELECT count(*) FROM jobs") == 2


async def test_the_same_bucket_in_another_group_is_another_job(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    other = await make_group(pool, "physicists")
    body = job(group)
    mine = await service.post("/v22_1/task-submit", json=body)
    theirs = await service.post("/v22_1/task-submit", json=body | {"secret": other.user_secret})
    assert mine.json() != theirs.json()


async def test_another_users_bucket_is_refused_without_a_word_about_the_job(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    taken, free = job(group), job(group)
    job_id = (await service.post("/v22_1/task-submit", json=taken)).json()
    # An admin may see the job, but a submission finds only the user's own jobs.
    theirs = {"secret": group.admin_secret}
    single = await service.post("/v22_1/task-submit", json=taken | theirs)
    assert single.status_code == 409
    sentence = single.json()["detail"]
    assert sentence.startswith("Another user of the group has submitted a job with this bucket")
    assert "submit with a bucket of your own" in sentence
    bulk = await service.post(
        "/v22_1/bulk/task-submit", json=[free | theirs, taken | theirs, taken, taken | theirs]
    )
    refusal = {"status": 409, "data": sentence}
    [new, *others] = bulk.json()
    assert new["status"] == 200
    assert others == [refusal, {"status": 200, "data": job_id}, refusal]
    assert job_id not in single.text
    # The sentence is the same for either of the two users.
    answer = await service.post("/v22_1/task-submit", json=free)
    assert answer.status_code == 409
    assert new["data"] not in answer.text
    assert await pool.fetchval("SELECT count(*) FROM jobs") == 2


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"codeversion": "orca:1.3.2"},
        {"codeversion": "psi4:1.3.3"},
        {"cores": 16},
        {"memorymb": 8000},
        {"timelimit": 60},
    ],
)
async def test_another_job_in_ones_own_bucket_is_refused(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, change: dict[str, Any]
) -> None:
    """M6: two different submissions in one folder both got the id of the first job."""
    body = job(group)
    job_id = (await service.post("/v22_1/task-submit", json=body)).json()
    answer = await service.post("/v22_1/task-submit", json=body | change)
    assert answer.status_code == 409
    assert f"has a job of yours already, {job_id}, with another image" in answer.text
    bulk = [body | change, job(group), body, body | {"priority": 7}]
    entries = (await service.post("/v22_1/bulk/task-submit", json=bulk)).json()
    assert [entry["status"] for entry in entries] == [409, 200, 200, 200]
    assert entries[2]["data"] == entries[3]["data"] == job_id
    assert await pool.fetchval("SELECT count(*) FROM jobs") == 2


async def test_one_of_two_concurrent_users_of_a_bucket_has_the_job(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    for _ in range(10):
        body = job(group)
        bodies = [body, body | {"secret": group.admin_secret}] * 4
        answers = await asyncio.gather(
            *(service.post("/v22_1/task-submit", json=each) for each in bodies)
        )
        by_user = [
            {(answer.status_code, answer.json() if answer.is_success else None) for answer in some}
            for some in (answers[::2], answers[1::2])
        ]
        # All requests of one user got the same id, all requests of the other were refused.
        assert all(len(outcomes) == 1 for outcomes in by_user), by_user
        assert {status for [(status, _)] in by_user} == {200, 409}
    assert await pool.fetchval("SELECT count(*) FROM jobs") == 10


async def test_the_first_of_two_users_of_a_bucket_in_one_request_has_it(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    bodies = [job(group) for _ in range(50)]
    first = [body | {"secret": group.admin_secret} for body in bodies]
    answer = await service.post("/v22_1/bulk/task-submit", json=[*first, *bodies])
    assert [entry["status"] for entry in answer.json()] == [200] * 50 + [409] * 50


async def test_a_user_revoked_meanwhile_does_not_learn_of_another_users_bucket(
    group: GroupOfTest, pool: Pool
) -> None:
    user, admin = [
        await authenticate_user(pool, secret) for secret in (group.user_secret, group.admin_secret)
    ]
    wanted = NewJob("a-bucket", "default", "psi4", "1.5", 1, 4000, 60)
    assert isinstance((await submit_jobs(pool, [(admin, wanted)]))[0], UUID)
    assert isinstance((await submit_jobs(pool, [(user, wanted)]))[0], BucketInUseError)
    await pool.execute("UPDATE users SET revoked_at = now() WHERE name = 'ada'")
    assert await submit_jobs(pool, [(user, wanted)]) == [None]


async def test_bulk_answers_in_order_and_a_refused_job_does_not_stop_others(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    new_group = await make_group(pool, "newcomers")
    await pool.execute(
        "UPDATE groups SET compute_epoch = 0, compute_key_id = NULL WHERE id = $1", new_group.id
    )
    bodies = [
        job(group),
        job(group, secret=make(SecretType.API).text),
        job(group, codeversion="nonsense"),
        job(new_group),
        job(group, cores=100_000),
        job(group),
    ]
    answer = await service.post("/v22_1/bulk/task-submit", json=bodies)
    assert answer.status_code == 200
    entries = answer.json()
    assert [entry["status"] for entry in entries] == [200, 403, 422, 412, 422, 200]
    assert entries[2]["data"].startswith("Parameter codeversion: ")
    assert "100000 is more than this service takes (1024)" in entries[4]["data"]
    assert entries[0]["data"] != entries[5]["data"]


async def test_one_request_may_hold_a_thousand_jobs_and_no_more(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    bodies = [job(group) for _ in range(1000)]
    answer = await service.post("/v22_1/bulk/task-submit", json=bodies)
    assert len({entry["data"] for entry in answer.json()}) == 1000
    refused = await service.post("/v22_1/bulk/task-submit", json=[*bodies, job(group)])
    assert refused.status_code == 422
    assert refused.json()["detail"] == "One request may hold 1000 jobs; this one has 1001."
    assert await pool.fetchval("SELECT count(*) FROM jobs") == 1000


async def test_without_a_compute_secret_nothing_is_accepted(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    await pool.execute("UPDATE groups SET compute_epoch = 0, compute_key_id = NULL")
    answer = await service.post("/v22_1/task-submit", json=job(group))
    assert answer.status_code == 412
    assert "group-rotate-compute-secret" in answer.json()["detail"]
    rotated = await service.post(
        "/v22_1/group-rotate-compute-secret", json={"adminsecret": group.admin_secret}
    )
    assert rotated.json().startswith("lqc-")
    assert (await service.post("/v22_1/task-submit", json=job(group))).status_code == 200


CALLS = [call for call, rule in RULES.items() if rule.fields]
NONSENSE = [b"", b"{", b"7", b'"CANARY"', b'[{"secret": "CANARY"}, 7]', b'{"secret": ["CANARY"]}']


async def test_a_refusal_of_nonsense_does_not_repeat_it(service: httpx.AsyncClient) -> None:
    for call in CALLS:
        for body in NONSENSE:
            answer = await service.post(f"/v22_1/{call}", content=body)
            assert answer.status_code == 422, (call, body)
            assert answer.json()["detail"]
            assert "CANARY" not in answer.text


async def test_faults_of_a_body_are_named_in_a_sentence(service: httpx.AsyncClient) -> None:
    async def detail(content: bytes, kind: str = "application/json") -> str:
        headers = {"Content-Type": kind}
        answer = await service.post("/v22_1/group-token", content=content, headers=headers)
        return str(answer.json()["detail"])

    assert await detail(b"not json") == "The body is not JSON (at character 0)"
    assert await detail(b"{}") == "Parameter secret: it is missing"
    assert "it has to be a JSON object" in await detail(b"7")
    assert "it has to be a JSON object" in await detail(b"{}", "text/plain")


@pytest.mark.parametrize("secret", ["CANARY", "lqa-canary", None, 7, ["CANARY"], "x" * 300])
async def test_no_refusal_repeats_the_secret(
    service: httpx.AsyncClient, group: GroupOfTest, secret: object
) -> None:
    for path, field in (("task-submit", "secret"), ("group-rotate-compute-secret", "adminsecret")):
        answer = await service.post(f"/v22_1/{path}", json=job(group) | {field: secret})
        assert answer.status_code in (403, 422)
        assert "CANARY" not in answer.text.upper()


async def test_group_token_needs_a_user_and_rotation_an_admin(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    token = await service.post("/latest/group-token", json={"secret": group.user_secret})
    assert token.json() == group.token
    for secret in (group.token, group.compute_secret, make(SecretType.API).text):
        answer = await service.post("/latest/group-token", json={"secret": secret})
        assert answer.status_code == 403
    refused = await service.post(
        "/latest/group-rotate-compute-secret", json={"adminsecret": group.user_secret}
    )
    assert refused.status_code == 403
    assert "admin" in refused.json()["detail"]


async def test_a_revoked_user_is_unknown_at_once(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    await pool.execute("UPDATE users SET revoked_at = now() WHERE name = 'ada'")
    answer = await service.post("/v22_1/task-submit", json=job(group))
    assert answer.status_code == 403


async def test_a_too_large_body_is_refused_unread(settings: Settings, group: GroupOfTest) -> None:
    small = settings.model_copy(update={"max_body_bytes": 10_000})
    async with running_service(small) as service:
        answer = await service.post("/v22_1/task-submit", json=job(group, name="n" * 20_000))
        assert answer.status_code == 413
        assert answer.json()["detail"].startswith("The body is larger than 10000 bytes;")

        async def chunks() -> Any:
            for _ in range(100):
                yield b" " * 1000

        answer = await service.post("/v22_1/task-submit", content=chunks())
        assert answer.status_code == 413


async def test_the_answer_has_the_request_id(service: httpx.AsyncClient) -> None:
    assert (await service.get("/livez")).headers["X-Request-ID"]
    given = await service.get("/livez", headers={"X-Request-ID": "abc-1"})
    assert given.headers["X-Request-ID"] == "abc-1"
    forged = await service.get("/livez", headers={"X-Request-ID": "a b\tc"})
    assert forged.headers["X-Request-ID"] != "a b\tc"


async def test_unknown_paths_and_methods_are_answered_in_the_same_style(
    service: httpx.AsyncClient,
) -> None:
    assert (await service.post("/v22_1/nothing")).json() == {"detail": "Not Found."}
    assert (await service.get("/v22_1/task-submit")).status_code == 405


@pytest.mark.parametrize("name", ["bucketid", "name", "codeversion"])
async def test_a_secret_in_a_stored_field_is_refused(
    service: httpx.AsyncClient, group: GroupOfTest, name: str
) -> None:
    wrong = job(group, **{name: group.user_secret + (":1" if name == "codeversion" else "")})
    answer = await service.post("/v22_1/task-submit", json=wrong)
    assert answer.status_code == 422
    assert answer.json()["detail"] == f"Parameter {name}: it holds an API secret; take it out"
    [bulk] = (await service.post("/v22_1/bulk/task-submit", json=[wrong])).json()
    assert bulk == {"status": 422, "data": answer.json()["detail"]}


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("node-join", {"name": "{}", "cores": 1, "memorymb": 100, "csr": ""}),
        ("node-join", {"name": "x", "agentversion": "{}", "cores": 1, "memorymb": 100, "csr": ""}),
        ("node-report", {"nomadversion": "{}"}),
        ("attempt-start", {"jobid": str(UUID(int=1)), "attempt": 1, "startkey": "{}"}),
        ("group-create-user", {"name": "{}"}),
    ],
)
async def test_no_other_call_stores_a_secret(
    service: httpx.AsyncClient, group: GroupOfTest, call: str, body: dict[str, Any]
) -> None:
    secrets = {
        "grouptoken": group.token,
        "computesecret": group.compute_secret,
        "nodetoken": group.user_secret,
        "adminsecret": group.admin_secret,
    }
    filled = {key: group.user_secret if text == "{}" else text for key, text in body.items()}
    answer = await service.post(f"/v22_1/{call}", json=filled | secrets)
    assert answer.status_code == 422
    assert "holds an API secret; take it out" in answer.json()["detail"]


def test_a_secret_in_a_receipts_message_is_redacted() -> None:
    secret = make(SecretType.NODE)
    receipt = AttemptEnd(
        nodetoken="", jobid=uuid4(), attempt=1, outcome="ended", message=f"said {secret.text}"
    )
    assert receipt.message == f"said lqn-{secret.key_id}-[redacted]"


async def test_a_secret_as_a_request_id_is_not_sent_back(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    for given in (group.user_secret, f"x_{group.user_secret}"):
        answer = await service.get("/livez", headers={"X-Request-ID": given})
        assert answer.headers["X-Request-ID"] != given
    moved = await service.post(f"/v22_1/task-status/?secret={group.user_secret}", json={})
    assert moved.status_code == 404
    assert "location" not in moved.headers


async def test_an_unknown_path_is_not_logged(
    service: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await service.get("/a-bucket/run.tgz")
    await service.post("/latest/task-status", json={})
    lines: list[Any] = [
        record.msg for record in caplog.records if record.name == "leruli_queue.request"
    ]
    assert [line["path"] for line in lines] == ["other", "/latest/task-status"]
