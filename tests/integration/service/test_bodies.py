"""Bodies that none of our clients sends: each is refused with a sentence, and none causes a 500."""

from __future__ import annotations

import httpx
import pytest
from service_world import GroupOfTest, claim_jobs, make_jobs, make_node

from leruli_queue.access.roles import RULES, Call
from leruli_queue.access.secrets import SecretType, make
from leruli_queue.api.app import create_app
from leruli_queue.jobs.attempts import AttemptId, start_attempt
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

JSON = {"Content-Type": "application/json"}
POSTS = [call for call, rule in RULES.items() if rule.fields]
UNREADABLE = {
    "not UTF-8": b'{"secret": "\xff\xfe"}',
    "too deep": b"[" * 200_000,
    "too deep and closed": b'{"secret":' * 50_000 + b"7" + b"}" * 50_000,
    "too many digits": b'{"secret": ' + b"7" * 10_000 + b"}",
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_body_that_is_not_json_gets_a_sentence(
    service: httpx.AsyncClient, body: bytes
) -> None:
    for call in POSTS:
        answer = await service.post(f"/v22_1/{call}", content=body, headers=JSON)
        assert answer.status_code == 422, call
        assert answer.json()["detail"].startswith("The body cannot be read: it has to be JSON")


async def test_other_methods_are_refused(service: httpx.AsyncClient) -> None:
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "TRACE"):
        answer = await service.request(method, "/v22_1/task-submit")
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
        assert method == "HEAD" or answer.json() == {"detail": "Method Not Allowed."}


async def refusal(service: httpx.AsyncClient, call: Call, body: str) -> str:
    answer = await service.post(f"/v22_1/{call}", content=body, headers=JSON)
    assert answer.status_code == 422, answer.text
    return str(answer.json()["detail"])


@pytest.mark.parametrize("value", ["true", '"4"', "1.5", "1e400", "NaN", "1" + "0" * 400, "[]"])
async def test_a_number_is_a_number(
    service: httpx.AsyncClient, group: GroupOfTest, value: str
) -> None:
    secret = f'"secret": "{group.user_secret}", "bucketid": "abc", "codeversion": "psi4:1.5"'
    for field in ("cores", "memorymb", "timelimit"):
        sentence = await refusal(service, Call.TASK_SUBMIT, f'{{{secret}, "{field}": {value}}}')
        assert sentence.startswith(f"Parameter {field}: ")
    node = f'"nodetoken": "{make(SecretType.NODE).text}", "outcome": "ended", "attempt": 1'
    for field in ("attempt", "exitcode", "uploadedbytes"):
        body = f'{{{node}, "jobid": "01a20dea-494b-7216-97e0-16c7800abf19", "{field}": {value}}}'
        assert (await refusal(service, Call.ATTEMPT_END, body)).startswith(f"Parameter {field}: ")


async def test_a_boolean_is_not_a_number(service: httpx.AsyncClient, group: GroupOfTest) -> None:
    secret = f'"adminsecret": "{group.admin_secret}"'
    for value in ("0", '"true"', "[]"):
        sentence = await refusal(
            service, Call.GROUP_CREATE_USER, f'{{{secret}, "name": "eve", "admin": {value}}}'
        )
        assert sentence.startswith("Parameter admin: ")


@pytest.mark.parametrize("name", ["a\\u0000b", "\\ud800", "a\\nb"])
async def test_an_impossible_name_is_refused(
    service: httpx.AsyncClient, group: GroupOfTest, name: str
) -> None:
    """PostgreSQL's text has no NUL, and UTF-8 has no half of a surrogate pair."""
    admin = f'"adminsecret": "{group.admin_secret}", "name": "{name}"'
    assert "Parameter name: " in await refusal(service, Call.GROUP_REVOKE_USER, f"{{{admin}}}")
    await refusal(service, Call.GROUP_CREATE_USER, f"{{{admin}}}")
    reader = f'"grouptoken": "{group.token}", "user": "{name}"'
    assert "Parameter user: " in await refusal(service, Call.GROUP_ACTIVITY, f"{{{reader}}}")


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_a_time_outside_the_calendar_is_refused(
    service: httpx.AsyncClient, group: GroupOfTest, time: str
) -> None:
    body = f'{{"grouptoken": "{group.token}", "since": "{time}"}}'
    for call in (Call.GROUP_ACTIVITY, Call.GROUP_USAGE):
        assert "in the years 1 to 9999" in await refusal(service, call, body)


@pytest.mark.parametrize("time", ["2026", "1e3", "-1", ""])
async def test_a_year_is_not_taken_for_seconds(
    service: httpx.AsyncClient, group: GroupOfTest, time: str
) -> None:
    body = f'{{"grouptoken": "{group.token}", "since": "{time}"}}'
    assert "2026-11-24T08:00:00Z" in await refusal(service, Call.GROUP_USAGE, body)


async def test_no_receipt_breaks_the_groups_usage(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    """The core-hours of two jobs of 1e308 s exceed the largest number."""
    node, token = await make_node(pool, group), make(SecretType.NODE)
    await pool.execute("UPDATE nodes SET key_id = $1, token_hash = $2", token.key_id, token.hash)
    await make_jobs(pool, group, 2)
    for claimed in await claim_jobs(pool, group, 2):
        await start_attempt(pool, node, AttemptId(claimed["job_id"], 1), "start-key")
        receipt = f'"nodetoken": "{token.text}", "jobid": "{claimed["job_id"]}", "attempt": 1'
        body = f'{{{receipt}, "outcome": "ended", "exitcode": 0, "wallseconds": 1e308}}'
        assert "Parameter wallseconds: " in await refusal(service, Call.ATTEMPT_END, body)
        body = body.replace("1e308", "1e12")
        answer = await service.post("/v22_1/attempt-end", content=body, headers=JSON)
        assert answer.status_code == 200
    answer = await service.post("/v22_1/group-usage", json={"grouptoken": group.token})
    assert answer.json()["rows"][0]["corehours"] == pytest.approx(2e12 / 3600)


def test_the_schema_describes_our_errors_and_the_jobs_of_a_bulk_submit() -> None:
    """Schemathesis does not notice parts that the schema leaves open."""
    schema = create_app(Settings(database_url="postgresql://nowhere/nothing")).openapi()
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            contents = [answer.get("content") for answer in operation["responses"].values()]
            assert all(contents), path
            assert not any(media["schema"] == {} for found in contents for media in found.values())
    posts = {
        path: operations["post"]
        for path, operations in schema["paths"].items()
        if "post" in operations
    }
    bulk = posts["/v22_1/bulk/task-submit"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(bulk["items"]["required"]) == {"secret", "bucketid", "codeversion"}
    assert all("Retry-After" in post["responses"]["429"]["headers"] for post in posts.values())
