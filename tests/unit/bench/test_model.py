from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.model.costs import DISPATCHER, NOMAD, PARTS, POSTGRES, SERVICE, Costs, Line, read_costs
from bench.model.engine import SaturatedError, Size, limits, predict
from bench.model.stations import Station

FREE = Costs(
    job_ms=dict.fromkeys(PARTS, Line(1e-6, 0.0)),
    idle_cores=dict.fromkeys(PARTS, Line(0.0, 0.0)),
    turnaround_s=0.0,
    start_s=0.0,
)


def costing(**job_ms: float) -> Costs:
    names = {"service": SERVICE, "dispatcher": DISPATCHER, "postgres": POSTGRES, "nomad": NOMAD}
    changed = {names[name]: Line(ms, 0.0) for name, ms in job_ms.items()}
    return replace(FREE, job_ms={**FREE.job_ms, **changed})


def test_one_slot_runs_jobs_one_after_the_other() -> None:
    found = predict(FREE, Size(nodes=1, slots_a_node=1), [10.0] * 5)
    assert found.jobs == 5
    assert found.seconds == pytest.approx(50.0, rel=1e-3)
    assert found.lag_median == pytest.approx(0.0, abs=1e-3)
    assert found.occupied == pytest.approx(1.0, rel=1e-3)


def test_a_turnaround_comes_between_two_jobs_of_a_slot() -> None:
    slow = replace(FREE, turnaround_s=2.0, start_s=1.0)
    found = predict(slow, Size(nodes=1, slots_a_node=1), [10.0] * 5)
    # The first command also waits: half of the pause, then the start.
    assert found.seconds == pytest.approx(5 * 10 + 4 * 2.0 + 1.5, rel=1e-3)
    assert found.lag_median == pytest.approx(2.0, rel=1e-3)


def test_as_many_slots_as_jobs_run_them_all_at_once() -> None:
    found = predict(FREE, Size(nodes=50, slots_a_node=4), [10.0] * 200)
    assert found.seconds == pytest.approx(10.0, rel=1e-2)


def test_work_in_proportion_to_slots_takes_as_long_as_one_slot() -> None:
    found = predict(FREE, Size(nodes=10, slots_a_node=10), [10.0] * 5000)
    assert found.seconds == pytest.approx(500.0, rel=1e-2)
    assert found.jobs_a_second == pytest.approx(10.0, rel=0.05)


def test_a_slow_part_bounds_the_rate_however_many_slots_there_are() -> None:
    # 50 ms of the dispatcher's one core: 20 jobs a second.
    found = predict(costing(dispatcher=50.0), Size(nodes=1000, slots_a_node=10), [1.0] * 2000)
    assert found.jobs / found.seconds == pytest.approx(20.0, rel=0.05)
    assert found.busiest == DISPATCHER
    assert found.load[DISPATCHER] == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(
    ("part", "costs"), [(SERVICE, costing(service=50.0)), (NOMAD, costing(nomad=50.0))]
)
def test_more_cores_move_the_bound(part: str, costs: Costs) -> None:
    for copies in (1, 2, 4):
        size = Size(nodes=1000, slots_a_node=10, cores={part: copies})
        found = predict(costs, size, [1.0] * 2000)
        assert found.jobs / found.seconds == pytest.approx(20.0 * copies, rel=0.05)
        assert limits(costs, size)[part] == pytest.approx(20.0 * copies)


def test_plans_bound_nomad_however_many_cores_it_has() -> None:
    # 10 ms of the 50 ms are for the plan, and plans come one after the other.
    costs = costing(nomad=50.0)
    size = Size(nodes=1000, slots_a_node=10, cores={NOMAD: 64})
    found = predict(costs, size, [1.0] * 2000)
    assert found.jobs / found.seconds == pytest.approx(100.0, rel=0.05)
    assert min(limits(costs, size).values()) == pytest.approx(100.0)


def test_the_cost_of_nodes_reduces_the_rate_of_jobs() -> None:
    # The nodes take half of the dispatcher's core.
    busy = replace(
        costing(dispatcher=50.0),
        idle_cores={**FREE.idle_cores, DISPATCHER: Line(0.0, 0.005)},
    )
    size = Size(nodes=100, slots_a_node=10)
    assert limits(busy, size)[DISPATCHER] == pytest.approx(10.0)
    found = predict(busy, size, [1.0] * 1000)
    assert found.jobs / found.seconds == pytest.approx(10.0, rel=0.05)
    with pytest.raises(SaturatedError, match="200 nodes alone"):
        predict(busy, replace(size, nodes=200), [1.0])


def test_a_station_serves_as_many_at_once_as_it_has_servers() -> None:
    station = Station(2)
    assert [station.take(0.0, 1.0) for _ in range(4)] == [1.0, 1.0, 2.0, 2.0]
    assert station.take(5.0, 1.0) == 6.0
    assert station.busy_s == 5.0


def test_a_line_goes_through_the_measured_points_and_never_falls() -> None:
    assert Line.through([(0, 1.0), (10, 2.0)]).at(20) == pytest.approx(3.0)
    assert Line.through([(5, 2.0)]).at(500) == 2.0
    assert Line.through([(0, 3.0), (10, 1.0)]) == Line(2.0, 0.0)
    assert Line.through([(10, 1.0), (20, 3.0)]).base == 0.0


def test_costs_are_read_from_runs_of_the_simulation(tmp_path: Path) -> None:
    for nodes in (50, 150):
        lag = {"median": 0.5}
        run = {
            "parameters": {"nodes": nodes, "absent": 0, "groups": 1},
            "outcome": {
                "cpu_ms": dict.fromkeys(PARTS, 5.0 + nodes / 100),
                "idle_cores": dict.fromkeys(PARTS, nodes / 1000),
                "lags": {
                    "slot free to the next command": lag,
                    "on a node to leave to start": lag,
                    "leave to start to running": lag,
                },
            },
        }
        (tmp_path / f"{nodes}.json").write_text(json.dumps(run))
    costs = read_costs(sorted(tmp_path.glob("*.json")))
    assert costs.service_s(NOMAD, 250) == pytest.approx(0.0075)
    assert costs.service_s(SERVICE, 250) == pytest.approx(0.006)
    assert costs.background(SERVICE, 1000) == pytest.approx(1.0)
    # Heartbeats are bounded from 500 nodes on.
    assert costs.background(NOMAD, 5000) == pytest.approx(0.5)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json is not from bench\.simulate"):
        read_costs([tmp_path / "other.json"])
