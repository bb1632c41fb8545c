"""What is said of the results that earlier jobs left in folders which are submitted again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from leruli.counting import counted
from leruli.leftovers import Leftovers
from leruli.output import Output
from leruli.standing import named


def tell_leftovers(
    out: Output, found: Mapping[str, Leftovers], *, again: bool = False, with_results: bool = False
) -> None:
    """Remark which results of earlier jobs are not sent, and what else is.

    Of folders that are submitted `again` also that they have no record to tell results by.
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
        out.note(f"Sent as input as the last job left it: {named(rewritten)}.")
    changed = _names(one.changed for one in found.values())
    if changed:
        out.note(
            f"Sent as input, as it changed after it was fetched as a result: {named(changed)}."
        )
    unknown = [name for name, one in found.items() if not one.is_known]
    if unknown and again:
        where = "this folder" if len(found) == 1 else counted(len(unknown), "folder")
        out.note(
            f"In {where} there is no record that tells results from input, as after an older "
            "client: all files are sent. Delete results that are no input."
        )


def _names(names: Iterable[Iterable[str]]) -> list[str]:
    """Return each name once, sorted; the folders of a batch have the same ones."""
    return sorted(set(itertools.chain.from_iterable(names)))
