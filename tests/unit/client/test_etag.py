"""H9: a file is compared with an object by its content, whose MD5 is in the ETag."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from leruli.storage import etag as content
from leruli_node.objects import object_store


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_an_object_in_one_part(tmp_path: Path) -> None:
    file = tmp_path / "restart.bin"
    file.write_bytes(b"old state")
    assert content.has_content(file, md5(b"old state"), 9)
    assert not content.has_content(file, md5(b"new state"), 9)
    assert not content.has_content(file, md5(b"old state"), 8)


@pytest.mark.parametrize("etag", ["", "not-md5", md5(b"old state") + "-1-2", md5(b"x").upper()])
def test_an_unknown_checksum_matches_no_file(tmp_path: Path, etag: str) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"old state")
    assert not content.has_content(file, etag, 9)


def test_an_object_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "part_bytes", lambda _: 4)
    file = tmp_path / "f"
    file.write_bytes(b"0123456789")
    parts = [hashlib.md5(p, usedforsecurity=False).digest() for p in (b"0123", b"4567", b"89")]
    etag = md5(b"".join(parts))
    assert content.has_content(file, f"{etag}-3", 10)
    assert not content.has_content(file, f"{etag}-2", 10)
    file.write_bytes(b"0123456780")
    assert not content.has_content(file, f"{etag}-3", 10)


@pytest.mark.parametrize("size", [0, 1, 17 * 2**20, 160 * 2**30, 200 * 2**30, 625 * 2**30])
def test_the_part_size_is_that_of_the_node_agent(size: int) -> None:
    assert content.part_bytes(size) == object_store.part_bytes(size)
