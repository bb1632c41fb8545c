"""The SQL statements: their stub is current, and a wrong argument is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from leruli_queue.store.queries import prepared, queries

ROOT = Path(__file__).resolve().parents[3]


def test_the_stub_has_the_parameters_of_every_statement() -> None:
    spec = importlib.util.spec_from_file_location("query_stub", ROOT / "setup/query_stub.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.STUB.read_text() == module.stub(), "run 'make stub'"


def test_arguments_are_in_the_order_of_the_statement() -> None:
    sql, values = prepared("forget_parent", {"cluster": "default", "id": "run-1"})
    assert "id = $1 AND cluster = $2" in sql
    assert values == ["run-1", "default"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"id": "run-1", "cluster": "default", "faileds": []}, r"unknown arguments \['faileds'\]"),
        ({"id": "run-1"}, r"missing arguments \['cluster'\]"),
        ({"id": "run-1", "clusters": "default"}, r"unknown .*'clusters'.*missing .*'cluster'"),
    ],
)
async def test_a_wrong_argument_is_refused_before_the_statement_runs(
    arguments: dict[str, object], sentence: str
) -> None:
    nobody = None  # no connection: nothing is asked
    with pytest.raises(TypeError, match=sentence):
        await queries.forget_parent(nobody, **arguments)
