"""What a job wrote, on standard output or standard error of the client."""

from __future__ import annotations

import codecs
import re
from typing import TextIO

# Characters that move the cursor, and all of a node's other means to change what a person sees.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class JobOutput:
    """Writes the bytes of a job to one of the client's own streams at once.

    A file or a pipe gets each byte as the job wrote it. A terminal gets text: control characters
    other than a new line, a tab and a carriage return are shown and not executed.

    Parameters
    ----------
    file
        Standard output or standard error.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._decoder = None
        if file.isatty():
            self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def __call__(self, data: bytes) -> None:
        """Write some bytes. Raises BrokenPipeError."""
        if self._decoder is None:
            self._file.flush()
            self._file.buffer.write(data)
        else:
            self._file.write(_CONTROLS.sub(_shown, self._decoder.decode(data)))
        self._file.flush()


def _shown(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]
