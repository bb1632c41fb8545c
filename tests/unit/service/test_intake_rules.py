from __future__ import annotations

import pytest
from pydantic import ValidationError

from leruli_queue.api.errors import sentence_of
from leruli_queue.api.schemas.tasks import TaskSubmit
from leruli_queue.jobs.intake import split_code_version

GOOD = {
    "secret": "lqa-canary",
    "bucketid": "3f1a1c7e-5b1e-4d5e-9d6c-0f6f5d0d1a11",
    "name": "default",
    "codeversion": "psi4:1.3.2",
    "cores": 1,
    "memorymb": 4000,
    "timelimit": 86400,
}


def test_the_published_clients_body_is_accepted() -> None:
    job = TaskSubmit.model_validate(GOOD).new_job("bucket")
    assert (job.code, job.version, job.cores) == ("psi4", "1.3.2", 1)


@pytest.mark.parametrize("text", ["psi4:1.5", "xtb:6.5.1", "my-code_2.x:v1-beta", "a__b:1"])
def test_docker_names_are_accepted(text: str) -> None:
    assert ":".join(split_code_version(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "psi4", "psi4:", "psi4:latest", ":1.5", "Psi4:1.5", "psi4:1.5:2", "reg/psi4:1.5",
        "psi4:${NOMAD_META_job}", "psi4:%{x}", "a..b:1", "psi4:1 5", "psi4:-1", "x" * 64 + ":1",
        "psi4:1\n", 'p"s:1',
    ],
)  # fmt: skip
def test_names_that_docker_or_nomad_would_misread_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="codeversion has to"):
        split_code_version(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cores", 0), ("cores", -1), ("cores", 1.5), ("cores", "two"), ("cores", 2**31),
        ("memorymb", 1), ("timelimit", 0), ("timelimit", None), ("bucketid", "no"),
        ("bucketid", "Upper-Case"), ("bucketid", "x" * 64), ("bucketid", "a/../b"),
        ("name", "\x1b[2J"), ("name", "n" * 201), ("codeversion", "nonsense"), ("secret", 7),
    ],
)  # fmt: skip
def test_wrong_fields_are_refused_by_name_and_without_their_value(
    field: str, value: object
) -> None:
    with pytest.raises(ValidationError) as refusal:
        TaskSubmit.model_validate(GOOD | {field: value})
    sentence = sentence_of(refusal.value.errors())
    assert sentence.startswith(f"Parameter {field}: ")
    assert GOOD["secret"] not in sentence
    assert GOOD["secret"] not in str(refusal.value)


@pytest.mark.parametrize("character", ["\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066"])
def test_no_name_may_hold_control_or_bidirectional_characters(character: str) -> None:
    TaskSubmit.model_validate(GOOD | {"name": "Müller, C₆H₆ 💧"})
    with pytest.raises(ValidationError):
        TaskSubmit.model_validate(GOOD | {"name": f"a{character}b"})
