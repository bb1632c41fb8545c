"""The table that `make bench` prints, and the two files that it writes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from bench.figures import Figure, Samples
from bench.machine import Machine

_HEAD = (
    "what",
    "ours",
    "min to max",
    "target",
    "met",
    "peer",
    "its",
    "min to max",
    "ratio",
    "at least",
)

_ANSWERS = {None: "?", True: "yes", False: "NO"}


@dataclass(frozen=True)
class Result:
    """One figure, and the load of the machine after it."""

    figure: Figure
    load: float


@dataclass(frozen=True)
class Report:
    """The results of one run."""

    began: datetime
    machine: Machine
    repeat: int
    results: Sequence[Result]
    # One sentence for each measurement that failed, with the reason.
    failures: Sequence[str] = ()

    def table(self) -> str:
        """Return a table that reads well as text and as Markdown."""
        lines = [_HEAD, *(line for result in self.results for line in _lines(result.figure))]
        widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
        texts = [
            "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
            for line in lines
        ]
        texts.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
        return "\n".join(texts)

    def notes(self) -> str:
        """Return one line per figure: load of the machine, and conditions of the measurement."""
        notes = {
            f"- {result.figure.what}: load average {result.load:.1f} after it"
            + (f"; {result.figure.ours.note}" if result.figure.ours.note else "")
            for result in self.results
        }
        return "\n".join(sorted(notes))

    def markdown(self) -> str:
        """Return the whole report for people."""
        parts = [
            f"# make bench, {self.began:%Y-%m-%d %H:%M}",
            "\n".join(f"- {line}" for line in self.machine.lines()),
            f"Medians of {self.repeat}.",
            self.table(),
            self.notes(),
        ]
        if self.failures:
            parts.append("Not measured:\n\n" + "\n".join(f"- {why}" for why in self.failures))
        return "\n\n".join(part for part in parts if part) + "\n"

    def as_json(self) -> str:
        """Return the whole report with every sample as JSON."""
        whole = {
            "began": self.began.isoformat(timespec="seconds"),
            "machine": self.machine.as_dict(),
            "repeat": self.repeat,
            "figures": [
                asdict(result.figure) | {"is_met": result.figure.is_met, "load": result.load}
                for result in self.results
            ],
            "failures": list(self.failures),
        }
        return json.dumps(whole, indent=2) + "\n"

    def write(self, folder: Path) -> Path:
        """Write both files; return the path of the one for people."""
        folder.mkdir(exist_ok=True)
        machine = re.sub(r"[^A-Za-z0-9.-]+", "-", self.machine.name) or "machine"
        stem = f"{self.began:%Y-%m-%d-%H%M}-{machine}"
        (folder / f"{stem}.json").write_text(self.as_json(), encoding="utf-8")
        path = folder / f"{stem}.md"
        path.write_text(self.markdown(), encoding="utf-8")
        return path


def _lines(figure: Figure) -> list[tuple[str, ...]]:
    """Return one line per peer. The first line also holds our value."""
    nothing_asked = figure.target is None and not figure.least
    met = "" if nothing_asked else _ANSWERS[figure.is_met]
    target = "" if figure.target is None else f"{figure.better} {_number(figure.target)}"
    ours = (figure.what, f"{_number(figure.ours.median)} {figure.unit}", _range(figure.ours))
    lines = [
        (
            *(peer.who, _number(peer.median), _range(peer)),
            *(f"{figure.ratio(peer):.1f}x", _least(figure, peer.who)),
        )
        for peer in figure.peers
    ]
    measured = {peer.who for peer in figure.peers}
    lines += [
        (who, "not measured", "", "", _least(figure, who))
        for who in figure.least
        if who not in measured
    ]
    lines = lines or [("",) * 5]
    first, *others = lines
    return [(*ours, target, met, *first), *(("",) * 5 + other for other in others)]


def _least(figure: Figure, who: str) -> str:
    if who not in figure.least:
        return ""
    return f"{figure.least[who]:g}x: {_ANSWERS[figure.is_ahead(who)]}"


def _range(samples: Samples) -> str:
    return f"{_number(min(samples.values))} to {_number(max(samples.values))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
