"""A hook of MkDocs: adds pages from outside of docs/ to the site.

node_setup/README.md is part of the package for nodes, and GitHub shows CONTRIBUTING.md at the root.
Their links, and links to them, lead to copies under outside/. A link from a page to any other file
of the tree becomes plain text, as the site has no such file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = (
    "node_setup/README.md",
    "CONTRIBUTING.md",
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "bench/README.md",
    "soak/README.md",
    "cli/README.md",
)
_FOLDER = "outside"
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of OUTSIDE."""
    from mkdocs.structure.files import File, InclusionLevel

    in_nav = str(config.nav)
    for name in OUTSIDE:
        source = f"{_FOLDER}/{name}"
        file = File.generated(config, source, content=(ROOT / name).read_text(encoding="utf-8"))
        if source not in in_nav:
            file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Change links so that they lead to the page's place on the site."""
    source = page.file.src_uri
    true_place = source.removeprefix(f"{_FOLDER}/")
    in_docs = true_place == source
    folder = os.path.dirname(f"docs/{source}" if in_docs else true_place)  # noqa: PTH120

    def led(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        wanted = os.path.normpath(os.path.join(folder, target))  # noqa: PTH118
        if wanted in OUTSIDE:
            to = f"{_FOLDER}/{wanted}"
        elif wanted.startswith("docs/") and files.get_file_from_path(wanted.removeprefix("docs/")):
            to = wanted.removeprefix("docs/")
        elif (ROOT / wanted).exists():
            return text
        else:
            return match[0]
        return f"[{text}]({os.path.relpath(to, os.path.dirname(source) or '.')}{anchor})"  # noqa: PTH120

    return _LINK.sub(led, markdown)
