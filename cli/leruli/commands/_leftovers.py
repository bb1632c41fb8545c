"""Remarks on the results of earlier jobs in folders that are submitted again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from leruli.folder.leftovers import Leftovers
from leruli.folder.provenance import named
from leruli.terminal.output import Output
from leruli.wording import counted


def tell_leftovers(
    out: Output, found: Mapping[str, Leftovers], *, again: bool = False, with_results: bool = False
) -> None:
    """Print which files of earlier jobs are sent, and which are not.

    With `again`, also print which folders have no record that distinguishes results from input.
    """
    stale = _names(one.stale for one in found.values())
    if stale and not with_results:
        out.note(
            f"Not sent, as results of the last job: {named(stale)}."
            + (" They are in leruli.history." if again else "")
            + " --with-results sends them."
        )
    rewritten = _names(one.rewritten for one in found.values())
    if rewritten:
        out.note(f"Sent as input, with the content that the last job wrote: {named(rewritten)}.")
    changed = _names(one.changed for one in found.values())
    if changed:
        out.note(
            f"Sent as input, because it changed after it was fetched as a result: {named(changed)}."
        )
    unknown = [name for name, one in found.items() if not one.is_known]
    if unknown and again:
        where = "this folder" if len(found) == 1 else counted(len(unknown), "folder")
        out.note(
            f"In {where} there is no record that tells results from input. Older clients write "
            "none. All files are sent. Delete results that are not input."
        )


def _names(names: Iterable[Iterable[str]]) -> list[str]:
    """Return each name once, sorted. The folders of a batch have many names in common."""
    return sorted(set(itertools.chain.from_iterable(names)))
