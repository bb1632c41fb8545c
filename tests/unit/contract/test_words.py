"""Shared words are equal in service, client, node agent and simulated nodes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from leruli import redaction
from leruli.folder import job_folder as jobfolder
from leruli.images import published as images
from leruli.jobs import submit as submitting
from leruli.jobs import targets
from leruli.service import states
from leruli.terminal import brief
from leruli_node import outcomes as agents_outcomes
from leruli_node import reporter
from leruli_node.images import names as agents_images
from leruli_node.images import store as agents_store
from leruli_queue.access.roles import RULES, Call, Role
from leruli_queue.access.secrets import SecretType, make
from leruli_queue.api.schemas.common import PRINTABLE
from leruli_queue.api.schemas.tasks import TaskSubmit
from leruli_queue.jobs.intake import split_code_version
from leruli_queue.jobs.outcomes import Outcome
from leruli_queue.jobs.states import FINAL, JobState
from leruli_queue.nodes.standing import Standing

ROOT = Path(__file__).resolve().parents[3]
NODESIM = "".join(path.read_text() for path in sorted((ROOT / "bench/nodesim").glob("*.go")))

_CALL = re.compile(r"(bulk/)?(task|batch|group|node|attempt|slot)-[a-z-]+")


def calls_in(folder: str) -> set[str]:
    """Arguments in the form of a call's name, without the names of commands."""
    return {
        argument.value
        for path in (ROOT / folder).rglob("*.py")
        for called in _called(ast.parse(path.read_text()))
        for argument in called.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
        if _CALL.fullmatch(argument.value)
    }


def _called(tree: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) != "click.command":
            yield node


def open_to(*roles: Role) -> set[str]:
    return {call for call, rule in RULES.items() if rule.may.keys() & set(roles)}


def test_the_client_makes_every_call_that_people_may_make_and_no_other() -> None:
    assert calls_in("cli/leruli") == open_to(Role.READER, Role.USER, Role.ADMIN)


def test_the_agent_makes_every_call_that_nodes_may_make_and_no_other() -> None:
    assert calls_in("node_setup/leruli_node") == open_to(Role.MACHINE, Role.NODE)


def test_simulated_nodes_make_calls_that_nodes_may_make() -> None:
    called = set(re.findall(r'\ba\.(?:call|once)\(ctx, "([^"]+)"', NODESIM))
    assert Call.ATTEMPT_END in called
    assert called <= open_to(Role.MACHINE, Role.NODE)


def test_the_agent_reports_every_outcome_that_the_service_knows_and_no_other() -> None:
    assert {one.value for one in agents_outcomes.Outcome} == {one.value for one in Outcome}


def test_simulated_nodes_report_outcomes_that_the_service_knows() -> None:
    reported = set(re.findall(r'\boutcome(?:, given\.exitCode)?\s*[:=]+\s*"(\w+)"', NODESIM))
    assert Outcome.ENDED in reported
    assert reported <= set(Outcome)


def test_the_client_knows_the_states_of_a_job() -> None:
    assert list(states.STATES) == list(JobState)
    assert states.FINAL == FINAL


def test_client_and_agent_know_the_standings_of_a_node() -> None:
    standings = {standing.value for standing in Standing}
    # "unknown" is the client's own state for a job that the service does not know.
    assert brief._COLOURS.keys() <= standings | set(JobState) | {"unknown"}
    assert set(reporter._ENDED) <= standings


@pytest.mark.parametrize("kind", SecretType)
def test_every_kind_of_secret_is_hidden_by_the_client(kind: SecretType) -> None:
    secret = make(kind)
    assert secret.text not in redaction.redact(f"glued{secret.text}glued")
    assert secret.key_id not in redaction.redact(secret.text[:-5].upper())


def test_the_agent_knows_a_group_token_and_its_key_id() -> None:
    token = make(SecretType.GROUP)
    match = agents_store._TOKEN.match(token.text)
    assert match is not None
    assert match[1] == token.key_id


def test_client_and_service_allow_the_same_bucket_names() -> None:
    buckets = TaskSubmit.model_json_schema()["properties"]["bucketid"]
    assert buckets["pattern"] == f"^{jobfolder._BUCKET_NAME.pattern}$"
    assert buckets["pattern"] == f"^{targets._BUCKET.pattern}$"


def test_the_client_takes_out_of_a_name_what_the_service_refuses() -> None:
    """Lone surrogates are not text, so the service never gets one."""
    for number in range(0x10000):
        if not 0xD800 <= number <= 0xDFFF:
            is_refused = not re.fullmatch(PRINTABLE, chr(number))
            is_taken_out = submitting._NOT_IN_NAMES.match(chr(number)) is not None
            assert is_refused == is_taken_out, f"U+{number:04X}"


@pytest.mark.parametrize(
    ("code", "version", "submitted", "published"),
    [
        ("psi4", "1.5", True, True),
        ("a", "_", True, True),
        ("g-xtb_2.0", "V1_rc.2", True, True),
        ("a" * 63, "1" * 63, True, True),
        # The last dash of the object's name separates code and version.
        ("psi4", "1.5-rc1", True, False),
        # Docker would take the first and the third.
        ("a..b", "1", False, False),
        ("a" * 64, "1", False, False),
        ("psi4", "1" * 64, False, False),
        ("Psi4", "1.5", False, False),
        ("psi4", ".5", False, False),
        ("psi4", "1.5 ", False, False),
        ("psi4\n", "1.5", False, False),
        ("", "1.5", False, False),
        ("psi4", "", False, False),
    ],
)
def test_the_agent_accepts_every_image_that_can_be_submitted(
    code: str, version: str, submitted: bool, published: bool
) -> None:
    try:
        taken = split_code_version(f"{code}:{version}") == (code, version)
    except ValueError:
        taken = False
    assert taken == submitted
    assert bool(images._CODE.fullmatch(code) and images._VERSION.fullmatch(version)) == published
    if submitted:
        assert agents_images.is_name(code, version)
