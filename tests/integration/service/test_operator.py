"""Commands of the operator about groups, and the search for secrets."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from service_world import (
    GroupOfTest,
    claim_jobs,
    leruli_queue,
    make_group,
    make_jobs,
    make_node,
    signing_request,
    state_of,
)

from leruli_queue.access.secrets import SecretType, make
from leruli_queue.dispatch.nodes import usable_nodes
from leruli_queue.jobs.attempts import AttemptId, StaleAttemptError, allow_upload, start_attempt
from leruli_queue.jobs.outcomes import Outcome, Receipt
from leruli_queue.jobs.receipts import end_attempt
from leruli_queue.jobs.retries import Retries
from leruli_queue.nomad.clusters import DEFAULT
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


@pytest.fixture
def database(settings: Settings) -> str:
    return settings.database_url.get_secret_value()


async def test_groups_are_listed_with_their_numbers(
    database: str, pool: Pool, group: GroupOfTest
) -> None:
    await make_jobs(pool, group, 3)
    await make_node(pool, group)
    await claim_jobs(pool, group, 1)
    await make_group(pool, "physicists")
    listed = await leruli_queue("group-list", "--json", database=database)
    chemists, physicists = json.loads(listed.stdout)
    assert chemists.items() >= {
        "name": "chemists", "users": 2, "nodes": 1, "waiting": 2, "in_flight": 1,
        "disabled_at": None, "has_compute_secret": True,
    }.items()  # fmt: skip
    assert physicists["name"] == "physicists"
    shown = await leruli_queue("group-list", database=database)
    assert "chemists" in shown.stdout
    for secret in (group.token, group.admin_secret, group.compute_secret):
        assert secret.split("-")[2] not in listed.stdout + shown.stdout


async def test_a_disabled_group_is_locked_out_and_can_be_enabled_again(
    database: str, pool: Pool, group: GroupOfTest, service: httpx.AsyncClient
) -> None:
    other = await make_group(pool, "physicists")
    done = await leruli_queue("group-disable", "chemists", database=database)
    assert done.stdout == "Group chemists is disabled.\n"
    calls = [
        ("group-token", {"secret": group.user_secret}),
        ("group-list-users", {"adminsecret": group.admin_secret}),
        ("group-activity", {"grouptoken": group.token}),
        ("node-join", {"grouptoken": group.token, "computesecret": group.compute_secret,
                       "name": "n", "cores": 1, "memorymb": 1000, "csr": signing_request()}),
    ]  # fmt: skip
    for call, body in calls:
        answer = await service.post(f"/v22_1/{call}", json=body)
        assert answer.status_code == 403, call
        assert "disabled by the operator" in answer.json()["detail"]
    # The answer to a wrong secret hides that the group is disabled. Another group is not affected.
    wrong = await service.post("/v22_1/group-token", json={"secret": make(SecretType.API).text})
    assert "disabled" not in wrong.text
    theirs = await service.post("/v22_1/group-token", json={"secret": other.user_secret})
    assert theirs.status_code == 200

    again = await leruli_queue("group-disable", "chemists", database=database)
    assert again.stdout == "Group chemists was disabled before.\n"
    await leruli_queue("group-enable", "chemists", database=database)
    answer = await service.post("/v22_1/group-token", json={"secret": group.user_secret})
    assert answer.status_code == 200
    answer = await service.post(
        "/v22_1/group-audit", json={"adminsecret": group.admin_secret, "limit": 2}
    )
    assert [entry["action"] for entry in answer.json()["entries"]] == [
        "group-enabled", "group-disabled"
    ]  # fmt: skip


async def test_jobs_of_a_disabled_group_stay_queued_and_running_ones_may_end(
    database: str, pool: Pool, group: GroupOfTest
) -> None:
    node = await make_node(pool, group)
    running, claimed, waiting = await make_jobs(pool, group, 3)
    await claim_jobs(pool, group, 2)
    await start_attempt(pool, node, AttemptId(running, 1), "startkey")
    await leruli_queue("group-disable", "chemists", database=database)
    assert await usable_nodes(pool, DEFAULT) == {}  # so none of its jobs is dispatched
    with pytest.raises(StaleAttemptError, match="disabled"):
        await start_attempt(pool, node, AttemptId(claimed, 1), "startkey")
    await allow_upload(pool, node, AttemptId(running, 1))
    receipt = Receipt(Outcome.ENDED, exit_code=0)
    async with pool.acquire() as connection:
        await end_attempt(connection, node, AttemptId(running, 1), receipt, Retries(5, 30.0))
    assert await state_of(pool, running) == ("completed", None)
    assert await state_of(pool, waiting) == ("received", None)


async def test_a_group_without_an_admin_gets_one_with_its_token(
    database: str, pool: Pool, group: GroupOfTest, service: httpx.AsyncClient
) -> None:
    other = await make_group(pool, "physicists")
    made = await leruli_queue(
        "group-create-admin", "chemists", "joan", database=database, text=f"{group.token}\n"
    )
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    assert group.token not in made.stdout + made.stderr
    token = await service.post("/v22_1/group-token", json={"secret": secret})
    assert token.json() == group.token
    users = await service.post("/v22_1/group-list-users", json={"adminsecret": secret})
    assert "joan" in users.text
    for text in (other.token, group.user_secret, "nonsense"):
        refused = await leruli_queue(
            "group-create-admin", "chemists", "jean", database=database, text=f"{text}\n"
        )
        assert refused.returncode == 1
        assert text not in refused.stdout + refused.stderr


@pytest.mark.parametrize("command", ["group-disable", "group-enable"])
async def test_an_unknown_group_is_refused_with_a_sentence(database: str, command: str) -> None:
    done = await leruli_queue(command, "nobody", database=database)
    assert done.returncode == 1
    assert done.stderr == (
        "leruli-queue: There is no group named 'nobody'; `leruli-queue group-list` has the names.\n"
    )


async def test_secrets_are_found_and_not_shown(tmp_path: Path) -> None:
    api, compute = make(SecretType.API), make(SecretType.COMPUTE)
    leaky = tmp_path / "bashrc"
    leaky.write_text(f"# a comment\nexport LERULI_API_SECRET={api.text}\n")
    found = await leruli_queue("secret-find", str(leaky), database=None)
    assert found.stdout == f"{leaky}:2: API secret, key id {api.key_id}\n"
    assert found.returncode == 0
    mistyped = compute.text[:-1] + ("a" if compute.text[-1] != "a" else "b")
    piped = await leruli_queue(
        "secret-find", "--json", database=None, text=f"{mistyped} {api.text[1:]} {compute.text};\n"
    )
    assert json.loads(piped.stdout) == {
        "file": "(standard input)", "line": 1, "type": "lqc", "what": "compute secret",
        "key": compute.key_id,
    }  # fmt: skip
    nothing = await leruli_queue("secret-find", database=None, text="lqa-nothing\n")
    assert (nothing.stdout, nothing.returncode) == ("", 1)
