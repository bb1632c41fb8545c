"""Documents: each link leads to an existing file and heading; each page is in the index."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_NAMED = re.compile(r"\bdocs/[\w/-]+\.md\b")
_CODE = re.compile(
    r"`((?:leruli_queue|cli|node_setup|tests|setup|bench|soak|nomad_jobs|images)/[\w./-]+)`"
)
# Released migrations are never edited, so they name documents by their old paths.
_NEVER_EDITED = "leruli_queue/store/migrations/"


def tracked() -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and not path.is_symlink() and not name.startswith(_NEVER_EDITED):
            yield path


def pages() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            name, _, anchor = target.partition("#")
            yield Path(os.path.normpath(page.parent / name)) if name else page, anchor


def test_each_link_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {os.path.relpath(to, ROOT)}#{anchor}"
        for page in pages()
        for to, anchor in links(page)
        if not to.exists() or (anchor and anchor not in anchors(to))
    ]
    assert broken == []


def test_each_document_that_code_names_exists() -> None:
    missing = set()
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        missing |= {(str(path), n) for n in _NAMED.findall(text) if not (ROOT / n).exists()}
    assert missing == set()


def test_each_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    records = ROOT / "docs" / "decisions" / "README.md"
    linked = {to for page in (index, records) for to, _ in links(page)}
    assert {p for p in pages() if ROOT / "docs" in p.parents} - linked == {index}


def test_each_file_of_code_that_a_page_names_exists() -> None:
    """A name of a file is a path from the root of the repository, in code marks."""
    missing = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in pages()
        if ROOT / "docs" / "decisions" not in page.parents
        for name in _CODE.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    ]
    assert missing == []
