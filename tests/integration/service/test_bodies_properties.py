"""Receipts, reports, joins, submissions of any shape: answered with 2xx or 4xx, never 5xx."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hypothesis import strategies as st
from property_world import search, searching
from service_world import make_jobs, running_service, signing_request
from states_world import Step, World

from leruli_queue.access.roles import Call
from leruli_queue.settings import Settings
from leruli_queue.store.pool import open_pool

ODD_NUMBERS = (0, -1, 1, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, 2**63, 2**64, 1.5, 1e308, -0.0)
ODD_TEXTS = (
    *(
        "",
        "\x00",
        "a\x00b",
        "\ud800",
        "\udfff",
        "ä",
        "\u202e",
        "x" * 5000,
        "${a}",
        "%00",
        "1",
        "null",
    ),
    *("../x", "a:b", "psi4:1.5", "NaN", "lqg-", "01a20dea-494b-7216-97e0-16c7800abf19", "\\u0000"),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(ODD_NUMBERS),
    st.integers(),
    st.floats(),
    st.sampled_from(ODD_TEXTS),
    st.text(max_size=20),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
CALLS = (
    *(Call.ATTEMPT_END, Call.ATTEMPT_END, Call.NODE_REPORT, Call.NODE_REPORT, Call.TASK_SUBMIT),
    *(Call.ATTEMPT_START, Call.ATTEMPT_UPLOAD, Call.NODE_JOIN, Call.TASK_CANCEL, Call.TASK_STATUS),
)
SECRETS = ("nodetoken", "secret", "computesecret", "grouptoken")


def right_bodies(world: World, csr: str) -> dict[Call, dict[str, Any]]:
    """A body that is accepted, for each call."""
    group, member = world.groups[0], world.nodes[0][0]
    job_id, number = next(iter(world.started))
    attempt = {"nodetoken": member.token, "jobid": str(job_id), "attempt": number}
    job = {"secret": group.user_secret, "jobid": str(job_id)}
    return {
        Call.ATTEMPT_START: attempt | {"startkey": "start-key-0"},
        Call.ATTEMPT_UPLOAD: attempt,
        Call.ATTEMPT_END: attempt
        | {"outcome": "node_trouble", "exitcode": 1, "message": "m", "wallseconds": 1.5}
        | {"cpuseconds": 1.5, "peakmemorymb": 3, "uploadedbytes": 1, "uploadedfiles": 1},
        Call.NODE_REPORT: {"nodetoken": member.token, "agentversion": "1", "nomadversion": "1"}
        | {"images": ["psi4:1.5"], "diskfreemb": 1, "disktotalmb": 2}
        | {"attempts": [{"jobid": str(job_id), "attempt": number}]},
        Call.NODE_JOIN: {"grouptoken": group.token, "computesecret": group.compute_secret}
        | {"name": "machine", "cores": 4, "memorymb": 8000, "agentversion": "1", "csr": csr},
        Call.TASK_SUBMIT: {"secret": group.user_secret, "bucketid": "b" * 8, "name": "n"}
        | {"codeversion": "psi4:1.5", "cores": 1, "memorymb": 100, "timelimit": 60, "priority": 0},
        Call.TASK_CANCEL: job,
        Call.TASK_STATUS: job,
    }


@asynccontextmanager
async def begun(settings: Settings) -> AsyncIterator[World]:
    """Two groups with jobs; a job of the first group has started."""
    async with open_pool(settings) as pool, running_service(settings) as service:
        world = await World.make(pool, service, settings)
        for place, group in enumerate(world.groups):
            world.jobs[place] += await make_jobs(pool, group, 3)
        await world.do(Step("claim", 0, 0, 0, 0, 0), await world.snapshot())
        await world.do(Step("start", 0, 0, 1, 0, 0), await world.snapshot())
        assert world.started
        yield world


@searching
def test_no_body_causes_a_fault_of_the_service(nomad_settings: Settings) -> None:
    """H3: whatever the fields hold, the answer is a sentence, and other groups are unaffected."""
    settings = nomad_settings.model_copy(update={"refusal_delay_s": 0.0})
    csr = signing_request()
    statuses: Counter[tuple[str, int]] = Counter()
    with asyncio.Runner() as runner:
        context = begun(settings)
        world = runner.run(context.__aenter__())
        bodies = right_bodies(world, csr)
        other = world.groups[1].id
        before = runner.run(world.snapshot()).of_group(other)

        def holds(call: Call, changes: dict[int, Any], without: set[int], more: Any) -> None:
            body = dict(bodies[call])
            fields = [name for name in body if name not in SECRETS]
            for place, value in changes.items():
                body[fields[place % len(fields)]] = value
            for place in without:
                body.pop(fields[place % len(fields)], None)
            if more is not None:
                body["more"] = more
            text = json.dumps(body)
            answer = runner.run(
                world.service.post(
                    f"/v22_1/{call}", content=text, headers={"Content-Type": "application/json"}
                )
            )
            statuses[call, answer.status_code] += 1
            assert answer.status_code < 500, f"{call}: {answer.status_code} {answer.text}"
            assert answer.status_code == 200 or answer.json()["detail"]
            after = runner.run(world.snapshot())
            assert after.of_group(other) == before, "another group's rows changed"

        try:
            search(
                holds,
                examples=150,
                call=st.sampled_from(CALLS),
                changes=st.dictionaries(st.integers(0, 9), VALUES, max_size=3),
                without=st.sets(st.integers(0, 9), max_size=1),
                more=st.none() | VALUES,
            )
        finally:
            runner.run(context.__aexit__(None, None, None))
    print(dict(statuses))
    assert {call for call, status in statuses if status == 200} >= {
        Call.NODE_REPORT,
        Call.NODE_JOIN,
    }
