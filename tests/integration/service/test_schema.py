"""Schemathesis against a real `serve`: no 5xx, and no answer that its OpenAPI does not describe."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_world import (
    GroupOfTest,
    claim_jobs,
    make_group,
    make_jobs,
    make_node_with_token,
    signing_request,
    stay_heard,
)

from leruli_queue.access.authenticate import authenticate_node
from leruli_queue.access.roles import Call
from leruli_queue.embedded.plain_http import answers
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.state import StackState, choose_ports
from leruli_queue.groups.users import create_user
from leruli_queue.jobs.attempts import AttemptId, start_attempt
from leruli_queue.jobs.intake import NewBatch
from leruli_queue.settings import PREFIX, Settings
from leruli_queue.store.pool import Pool

SECONDS = os.environ.get("LERULI_TEST_SCHEMA_SECONDS")
if SECONDS is None:  # /latest has the same routes; without it the others get twice the calls
    EXTENT = ["--max-time=150", "--seed=2026", "--exclude-path-regex=^/latest/"]
else:  # Schemathesis chooses a seed, and prints it
    EXTENT = [f"--max-time={SECONDS}"]
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
JOBS = 200
START_KEY = "start-key"


@pytest.fixture
async def served(nomad_settings: Settings, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The service as a process of its own."""
    assert nomad_settings.nomad_token is not None
    choose_ports(state := StackState(), wanted_service_port=None)
    url = f"http://127.0.0.1:{state.ports.service}"
    ours = {
        "DATABASE_URL": nomad_settings.database_url.get_secret_value(),
        "LISTEN_PORT": str(state.ports.service),
        "NOMAD_ADDRESS": nomad_settings.nomad_address,
        "NOMAD_TOKEN": nomad_settings.nomad_token.get_secret_value(),
        "NOMAD_SERVERS": ",".join(nomad_settings.nomad_servers),
        "NOMAD_CA_FILE": str(nomad_settings.nomad_ca_file),
        "NOMAD_CA_KEY_FILE": str(nomad_settings.nomad_ca_key_file),
        "NOMAD_CERT_FILE": str(nomad_settings.nomad_cert_file),
        "NOMAD_KEY_FILE": str(nomad_settings.nomad_key_file),
        "NODE_PACKAGE": str(CONFIGURATION),  # any file
        "SMTP_HOST": "127.0.0.1",  # nobody sends
        "SMTP_FROM": "queue@lab.example",
        # Most calls have a wrong secret.
        "REFUSAL_DELAY_S": "0",
        # The schema is the same for every service, so it does not contain the operator's settings.
        "MAX_CORES": str(2**31 - 1),
        "MAX_MEMORY_MB": str(2**31 - 1),
        "MAX_DISK_MB": str(2**31 - 1),
        "MAX_TIME_LIMIT_S": str(2**31 - 1),
        "MAX_BULK_SECRETS": "1000",
    }
    part = Part(
        name="service",
        arguments=[sys.executable, "-m", "leruli_queue", "serve"],
        environment=os.environ | {f"{PREFIX}{name}": value for name, value in ours.items()},
        log=tmp_path / "serve.log",
    )
    part.start()
    try:
        part.wait_until(lambda: answers(f"{url}/readyz"), seconds=30)
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            yield client
    finally:
        part.stop()


async def right_ones(
    served: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> dict[str, list[str]]:
    """Valid secrets, by the names in the configuration of Schemathesis."""
    # Calls rotate this group's secrets and revoke its users, so it is not the group with the jobs.
    administered = await make_group(pool, "administered")
    revocable = [f"user {number}" for number in range(50)]
    async with pool.acquire() as connection:
        for name in revocable:
            await create_user(
                connection, administered.id, administered.token, name=name, is_admin=False
            )
    for number in range(40):
        node, _ = await make_node_with_token(pool, administered)
        await pool.execute("UPDATE nodes SET name = $1 WHERE id = $2", f"node {number}", node.id)
    await stay_heard(pool)
    tokens = [await _join(served, group) for _ in range(2)]
    # bulk/task-cancel cancels all jobs of a user, so jobs with attempts belong to another user.
    async with pool.acquire() as connection:
        bob = await create_user(connection, group.id, group.token, name="bob", is_admin=False)
    await make_jobs(pool, group, JOBS)
    attempted = [row["job_id"] for row in await claim_jobs(pool, group, JOBS)]
    batch = NewBatch(uuid4(), "scan")
    jobs = await make_jobs(pool, replace(group, user_secret=bob), JOBS, batch=batch)
    node = await authenticate_node(pool, tokens[0])
    for job_id in attempted[JOBS // 4 :]:
        await start_attempt(pool, node, AttemptId(job_id, 1), START_KEY)
    return {
        "api_secrets": [bob, group.admin_secret],
        "admin_secrets": [administered.admin_secret],
        "group_tokens": [group.token],
        "compute_secrets": [group.compute_secret],
        "node_tokens": tokens[:1],
        "leaving_node_tokens": tokens[1:],
        "batch_ids": [str(batch.id)],
        "job_ids": [str(job_id) for job_id in jobs],
        "buckets": [row["bucket"] for row in await pool.fetch("SELECT bucket FROM jobs")],
        "new_buckets": [str(uuid4()) for _ in range(1000)],
        "attempted_job_ids": [str(job_id) for job_id in attempted],
        "start_keys": [START_KEY],
        "revocable_names": revocable,
        "node_names": [f"node {number}" for number in range(10)],
        "removable_names": [f"node {number}" for number in range(10, 40)],
        "signing_requests": [signing_request().replace("\n", "\\x0A")],
    }


async def _join(served: httpx.AsyncClient, group: GroupOfTest) -> str:
    body = {
        "grouptoken": group.token,
        "computesecret": group.compute_secret,
        "name": "machine",
        "cores": 4,
        "memorymb": 8000,
        "csr": signing_request(),
    }
    answer = await served.post("/v22_1/node-join", json=body)
    return str(answer.raise_for_status().json()["nodetoken"])


@pytest.mark.timeout(int(SECONDS or 150) + 240)
async def test_the_schema_describes_every_answer(
    served: httpx.AsyncClient, pool: Pool, group: GroupOfTest, tmp_path: Path
) -> None:
    shutil.copy(CONFIGURATION, tmp_path)
    for name, values in (await right_ones(served, pool, group)).items():
        lines = "".join(f'"{value}"\n' for value in values)
        (tmp_path / name).write_text(lines, encoding="utf-8")
    arguments = ["run", f"{served.base_url}/openapi.json", *EXTENT]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", *arguments, cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    print(output.decode())
    counts = await counted(served)
    for call, statuses in sorted(counts.items()):
        print(call, statuses)
    assert process.returncode == 0
    # It has got past the secrets: no call was always refused.
    assert [call for call in Call if call is not Call.OPENAPI and not counts[call].get("200")] == []


async def counted(served: httpx.AsyncClient) -> dict[str, dict[str, int]]:
    """How often the service has answered what, by call and status."""
    text = (await served.get("/metrics")).text
    counts: dict[str, dict[str, int]] = {call: {} for call in Call}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "leruli_queue_requests_total":
                statuses = counts.setdefault(sample.labels["call"], {})
                statuses[sample.labels["status"]] = int(sample.value)
    return counts
