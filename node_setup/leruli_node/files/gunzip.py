"""Decompresses a gzip stream piece by piece, in bounded memory whatever it expands to."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from leruli_node.errors import StoppedError
from leruli_node.retry import Stop

_GZIP = 31  # zlib's `wbits` for gzip, with its checksum
# zlib copies its unconsumed input with each call, so the pieces are small.
_PIECE = 2**14
_MAGIC = b"\x1f"


class GunzipError(Exception):
    """The stream is not gzip, is damaged, or ends too early. The text says which."""


class GunzipReader:
    """A file-like object that reads the decompressed bytes of an iterator of compressed ones."""

    def __init__(self, chunks: Iterator[bytes], stop: Stop) -> None:
        self._chunks = chunks
        self._stop = stop
        self._chunk = b""
        self._at = 0
        self._gzip = zlib.decompressobj(_GZIP)
        self.compressed = 0  #: bytes taken from `chunks`
        self.delivered = 0  #: bytes returned by `read`

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end of the stream.

        Raises
        ------
        GunzipError
            The stream cannot be decompressed.
        StoppedError
            `stop` is set.
        Exception
            Errors of the iterator.
        """
        parts, missing = [], size
        while missing > 0:
            part = self._some(missing)
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        self.delivered += size - missing
        return b"".join(parts)

    def _some(self, most: int) -> bytes:
        while True:
            if self._stop.is_set():
                raise StoppedError
            try:
                if self._gzip.eof:
                    pending = self._gzip.unused_data or self._piece()
                    # Like gzip, ignore trailing bytes that are not another member.
                    if not pending.startswith(_MAGIC):
                        return b""
                    self._gzip = zlib.decompressobj(_GZIP)
                    data = self._gzip.decompress(pending, most)
                else:
                    pending = self._gzip.unconsumed_tail or self._piece()
                    data = self._gzip.decompress(pending, most)
                    if not pending and not data and not self._gzip.eof:
                        raise GunzipError("it ends too early")
            except zlib.error:
                raise GunzipError("it is not a gzip archive, or is damaged") from None
            if data:
                return data

    def _piece(self) -> bytes:
        if self._at >= len(self._chunk):
            self._chunk, self._at = next(self._chunks, b""), 0
            self.compressed += len(self._chunk)
        piece = self._chunk[self._at : self._at + _PIECE]
        self._at += len(piece)
        return piece
