"""The signatures of `import leruli`, and their list in docs/users/python.md."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from pathlib import Path

import pytest

import leruli

DOCS = Path(__file__).parents[3] / "docs" / "users" / "python.md"

FUNCTIONS = [
    name
    for name in leruli.__all__
    if name.startswith(("task_", "group_", "batch_")) or name in ("wait", "as_completed", "events")
]
CLASSES = [
    name
    for name in leruli.__all__
    if name[0].isupper() and dataclasses.is_dataclass(getattr(leruli, name))
]

#: Parameters and defaults of the published client 22.1.6. Programs depend on them.
PUBLISHED = {
    "task_submit": "directory, code, version, command, cores=1, memorymb=4000, timeseconds=86400",
    "task_submit_many": "directories, codes, versions, commands, cores, memorymb, timeseconds",
    "task_status": "jobid",
    "task_get": "directory, bucket",
    "task_cancel": "jobid",
    "task_publish_code": "code, version",
    "task_list_codes": "",
    "task_prune": "bucket",
}

#: Parameters that this client added early. Its users may pass them by position.
ADDED = {"task_submit": "diskmb=None", "task_get": "everything=False"}


def signature(name: str, *, positional: bool = False) -> str:
    parameters = inspect.signature(getattr(leruli, name)).parameters.values()
    kept = [
        one.replace(annotation=inspect.Parameter.empty)
        for one in parameters
        if not positional or one.kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    return str(inspect.Signature(kept))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_signatures_stay(name):
    wanted = ", ".join(part for part in (PUBLISHED[name], ADDED.get(name)) if part)
    # The bucket is optional now.
    assert signature(name, positional=True).replace("bucket=None", "bucket") == f"({wanted})"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_is_documented_as_it_is(name):
    text = " ".join(DOCS.read_text().split())
    assert f"{name}{signature(name)}".replace("(, ", "(") in text.replace("( ", "(")
    assert re.search(rf"^#+ .*`{name}`", DOCS.read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_has_hints_and_says_what_it_raises(name):
    function = getattr(leruli, name)
    hints = inspect.get_annotations(function)
    assert set(hints) == {*inspect.signature(function).parameters, "return"}
    text = inspect.getdoc(function)
    assert "\nRaises\n------\n" in text
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"^(.*, )?{parameter}(, .*)?$", text, re.MULTILINE), parameter


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_is_documented_with_its_fields(name):
    found = getattr(leruli, name)
    assert found.__dataclass_params__.frozen
    section = re.search(rf"^### `{name}`\n(.*?)(?=^##|\Z)", DOCS.read_text(), re.M | re.S)
    assert section is not None
    documented = re.findall(r"^\| `(\w+)` \|", section[1], re.MULTILINE)
    parents = {"JobDetail": leruli.Job, "BatchStatus": leruli.Batch}
    base = {one.name for one in dataclasses.fields(parents[name])} if name in parents else set()
    fields = [one.name for one in dataclasses.fields(found) if one.name not in base]
    properties = [
        key
        for key, value in vars(found).items()
        if isinstance(value, property) and not key.startswith("_")
    ]
    assert documented == [*fields, *properties]
    assert set(typing.get_type_hints(found)) >= set(fields)


def test_no_other_function_is_documented():
    documented = set(
        re.findall(
            r"\b(?:(?:task|group|batch)_\w+|wait|as_completed|events)(?=\()", DOCS.read_text()
        )
    )
    assert documented == set(FUNCTIONS)
