"""Property tests: a few fixed examples in `make test`, many random ones on request.

CONTRIBUTING.md says how to start a long search, and how to repeat its failure.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from hypothesis.strategies import SearchStrategy

SECONDS = os.environ.get("LERULI_TEST_PROPERTY_SECONDS")
_SEED = os.environ.get("LERULI_TEST_PROPERTY_SEED")
# The seed of `make test`: running the test again repeats its failure.
_QUICK_SEED = 2026
_EXAMPLES_A_ROUND = 200

searching = pytest.mark.timeout(2 * int(SECONDS or 0) + 300)
"""Duration of the search of each property test, in s."""


def search(
    holds: Callable[..., None],
    *,
    examples: int,
    known: Sequence[Mapping[str, Any]] = (),
    **made: SearchStrategy[Any],
) -> None:
    """Call ``holds`` with values of the strategies ``made``; it raises if the property fails.

    Parameters
    ----------
    examples
        Number of examples in `make test`.
    known
        Values to try first, in every search.
    """

    def run(seed: int, count: int) -> int:
        tried = 0

        def counted(**values: Any) -> None:
            nonlocal tried
            tried += 1
            try:
                holds(**values)
            except Exception as error:
                # Hypothesis does not show the values of given examples.
                error.add_note(f"with {values!r:.3000}")
                raise

        test = hypothesis.given(**made)(counted)
        for values in known:
            test = hypothesis.example(**values)(test)
        hypothesis.seed(seed)(_settings(count)(test))()
        return tried

    _rounds(holds.__name__, run, examples)


def search_states(
    machine: Callable[[], RuleBasedStateMachine], name: str, *, examples: int, steps: int
) -> None:
    """Run a state machine with ``examples`` sequences of at most ``steps`` steps."""

    def run(seed: int, count: int) -> int:
        made = 0

        def factory() -> RuleBasedStateMachine:
            nonlocal made
            made += 1
            return machine()

        seeded: Any = hypothesis.seed(seed)(factory)
        run_state_machine_as_test(seeded, settings=_settings(count, steps))
        return made

    _rounds(name, run, examples)


def _rounds(name: str, run: Callable[[int, int], int], examples: int) -> None:
    if SECONDS is None:
        run(int(_SEED or _QUICK_SEED), examples)
        return
    seed = int(_SEED or secrets.randbelow(2**31))
    begun, tried = time.monotonic(), 0
    while time.monotonic() < begun + float(SECONDS):
        print(f"{name}: LERULI_TEST_PROPERTY_SEED={seed}", flush=True)
        tried += run(seed, _EXAMPLES_A_ROUND)
        seed += 1
    print(f"{name}: {tried} examples in {time.monotonic() - begun:.0f} s, no failure", flush=True)


def _settings(count: int, steps: int | None = None) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=count,
        stateful_step_count=steps or 1,
        database=None,
        deadline=None,
        print_blob=True,
        # Making a failing sequence smaller takes too long for `make test`.
        phases=(
            Phase.explicit,
            Phase.generate,
            *(() if steps and SECONDS is None else (Phase.shrink,)),
        ),
        suppress_health_check=list(HealthCheck),
    )
