"""Errors of commands for a copied folder, and for one that was edited after its submission."""

from __future__ import annotations

from leruli.folder.provenance import provenance_of
from leruli.terminal.output import Output


def check_own(directory: str) -> None:
    """Raise CopiedFolderError if the job of the folder belongs to another folder."""
    provenance_of(directory).check_own(directory)


def tell_provenance(out: Output, directory: str) -> int:
    """Print an error for a folder that is a copy or was edited. Return the exit code, 0 or 1."""
    provenance = provenance_of(directory)
    if provenance.is_sound:
        return 0
    out.complaint(provenance.sentence(directory))
    return 1
