"""What commands say of a folder whose job is another folder's, or of another input."""

from __future__ import annotations

from leruli.output import Output
from leruli.standing import standing_of


def check_own(directory: str) -> None:
    """Raise CopiedFolderError if the folder holds the job of another one."""
    standing_of(directory).check_own(directory)


def tell_standing(out: Output, directory: str) -> int:
    """Complain of a folder that is a copy, or edited since; returns the exit code, 0 or 1."""
    standing = standing_of(directory)
    if standing.is_sound:
        return 0
    out.complaint(standing.sentence(directory))
    return 1
