"""Draw the diagrams of docs/developers as SVG files: states.svg and architecture.svg.

The site asks no other host for anything, and the usual diagrams in Markdown need a script from
another host. So these are drawn here and committed. tests/unit/setup/test_diagrams.py compares them
with what this script draws, and the states with the code.

    .venv/bin/python setup/diagrams.py
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from leruli_queue.jobs.states import FINAL, TRANSITIONS, JobState

FOLDER = Path(__file__).parents[1] / "docs" / "developers"
_STYLE = (
    "text{font:13px sans-serif;fill:#1a1a1a}.small{font-size:11px;fill:#444}"
    ".box{fill:#eef3fb;stroke:#4a6ea9}.store{fill:#fdf3e3;stroke:#b0812f}"
    ".final{fill:#eaf5ea;stroke:#3f8f4f}.area{fill:none;stroke:#999;stroke-dasharray:5 4}"
    ".edge{fill:none;stroke:#555;stroke-width:1.3;marker-end:url(#tip)}"
    ".main{stroke:#1f5fbf;stroke-width:2.4}"
)


@dataclass(frozen=True)
class Box:
    """A rectangle with a name and a line below it; pixels."""

    x: int
    y: int
    width: int
    height: int
    name: str
    note: str = ""
    kind: str = "box"

    def svg(self) -> str:
        """Return the box as SVG."""
        middle = self.x + self.width // 2
        lines = [line for line in (self.name, self.note) if line]
        top = self.y + self.height // 2 - 8 * (len(lines) - 1) + 5
        texts = "".join(
            f'<text x="{middle}" y="{top + 16 * row}" text-anchor="middle"'
            f"{' class=' + chr(34) + 'small' + chr(34) if row else ''}>{escape(line)}</text>"
            for row, line in enumerate(lines)
        )
        return (
            f'<rect class="{self.kind}" x="{self.x}" y="{self.y}" width="{self.width}" '
            f'height="{self.height}" rx="6"/>{texts}'
        )

    def at(self, side: str, part: float = 0.5) -> tuple[int, int]:
        """Return a point of an edge; `part` counts from the left or the top."""
        across, down = self.x + int(self.width * part), self.y + int(self.height * part)
        return {
            "top": (across, self.y),
            "bottom": (across, self.y + self.height),
            "left": (self.x, down),
            "right": (self.x + self.width, down),
        }[side]


def edge(start: tuple[int, int], end: tuple[int, int], *, name: str = "", bend: int = 0) -> str:
    """Return an arrow; `bend` lifts its middle by so many pixels."""
    middle = (start[0] + end[0]) // 2, min(start[1], end[1]) - 2 * bend
    way = f"Q{middle[0]},{middle[1]} {end[0]},{end[1]}" if bend else f"L{end[0]},{end[1]}"
    kind = "edge main" if name in _USUAL else "edge"
    mark = f' id="{name}"' if name else ""
    return f'<path{mark} class="{kind}" d="M{start[0]},{start[1]} {way}"/>'


def label(x: int, y: int, text: str) -> str:
    """Return a small line of text, its middle at `x`."""
    return f'<text class="small" x="{x}" y="{y}" text-anchor="middle">{escape(text)}</text>'


def picture(width: int, height: int, title: str, *parts: str) -> str:
    """Return a whole SVG file."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'role="img" aria-label="{escape(title)}">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#555"/></marker></defs>\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


# The way of a job without trouble.
_USUAL = ("received-submitted", "submitted-running", "running-completed")
_PLACES = {
    JobState.RECEIVED: Box(20, 90, 150, 50, "received", "in the backlog"),
    JobState.SUBMITTED: Box(300, 90, 150, 50, "submitted", "dispatched to Nomad"),
    JobState.RUNNING: Box(580, 90, 150, 50, "running", "its command runs"),
    JobState.CANCELLED: Box(20, 280, 150, 50, "cancelled", "final", "final"),
    JobState.FAILED: Box(300, 280, 150, 50, "failed", "final", "final"),
    JobState.COMPLETED: Box(580, 280, 150, 50, "completed", "final", "final"),
}
_COLUMN = {20: 0, 300: 1, 580: 2}


def states() -> str:
    """Return the diagram of TRANSITIONS."""
    edges = []
    for before, onward in TRANSITIONS.items():
        for after in sorted(onward):
            start, end = _PLACES[before], _PLACES[after]
            here, there = _COLUMN[start.x], _COLUMN[end.x]
            name = f"{before}-{after}"
            if after in FINAL:
                fan = 0.25 + 0.25 * there, 0.25 + 0.25 * here
                edges.append(edge(start.at("bottom", fan[0]), end.at("top", fan[1]), name=name))
            elif there > here:
                edges.append(edge(start.at("right"), end.at("left"), name=name))
            else:
                bend = 28 * (here - there) - 8
                edges.append(
                    edge(
                        start.at("top", 0.35), end.at("top", 0.4 + 0.1 * here), name=name, bend=bend
                    )
                )
    return picture(
        750,
        350,
        "The states of a job",
        *edges,
        *(box.svg() for box in _PLACES.values()),
        label(235, 108, "feeder"),
        label(515, 108, "tracker"),
        label(235, 85, "requeued"),
        label(370, 18, "requeued"),
    )


def architecture() -> str:
    """Return the diagram of the parts and of who calls whom."""
    client = Box(20, 60, 150, 50, "leruli", "client: cli/")
    serve = Box(290, 60, 180, 50, "leruli-queue serve", "any number")
    database = Box(590, 60, 150, 50, "PostgreSQL", "jobs, groups, nodes", "store")
    dispatch = Box(590, 190, 150, 50, "leruli-queue dispatch", "one leads a cluster")
    nomad = Box(590, 320, 150, 50, "Nomad server", "a window of jobs", "store")
    objects = Box(20, 320, 150, 50, "S3", "a bucket a job", "store")
    agent = Box(250, 300, 130, 50, "leruli-node", "node agent")
    nomad_client = Box(410, 300, 130, 50, "Nomad client", "leruli-driver")
    docker = Box(330, 385, 130, 40, "Docker", "the container")
    return picture(
        760,
        450,
        "The parts of Leruli Queue and who calls whom",
        '<rect class="area" x="230" y="265" width="330" height="172" rx="8"/>',
        label(275, 282, "on each node"),
        edge(client.at("right"), serve.at("left")),
        label(230, 78, "HTTPS"),
        label(230, 104, "submit, status, cancel"),
        edge(serve.at("right"), database.at("left")),
        label(530, 78, "SQL"),
        edge(dispatch.at("top"), database.at("bottom")),
        label(712, 155, "claims, events"),
        edge(dispatch.at("bottom"), nomad.at("top")),
        label(706, 285, "dispatch, stop"),
        edge(nomad_client.at("right", 0.6), nomad.at("left", 0.2)),
        edge(agent.at("top"), serve.at("bottom", 0.3)),
        label(248, 200, "start, lease, receipt"),
        edge(nomad_client.at("left"), agent.at("right")),
        edge(nomad_client.at("bottom"), docker.at("top", 0.8)),
        edge(agent.at("bottom"), docker.at("top", 0.2)),
        edge(agent.at("left"), objects.at("right")),
        label(200, 312, "files"),
        edge(client.at("bottom"), objects.at("top")),
        label(122, 215, "files"),
        *(
            box.svg()
            for box in (
                client,
                serve,
                database,
                dispatch,
                nomad,
                objects,
                agent,
                nomad_client,
                docker,
            )
        ),
    )


DRAWN = {"states.svg": states, "architecture.svg": architecture}


def main() -> None:
    """Write all diagrams."""
    for name, draw in DRAWN.items():
        (FOLDER / name).write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
