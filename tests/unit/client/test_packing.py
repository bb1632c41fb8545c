import io
import os
import socket
import tarfile

import pytest

from leruli.errors import RefusedError
from leruli.folder.packing import run_script, take_inventory, write_archive


def pack(folder, command="true"):
    sink = io.BytesIO()
    write_archive(take_inventory(str(folder)), command, sink)
    return sink.getvalue()


def names(content):
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return tar.getnames()


def test_order_and_bytes_do_not_depend_on_the_file_system(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, order in ((one, ["b", "a-1", "a/x", "c"]), (two, ["c", "a/x", "a-1", "b"])):
        (folder / "a").mkdir(parents=True)
        for name in order:
            (folder / name).write_text(name)
        for path in folder.rglob("*"):
            os.utime(path, (1e9, 1e9))
    assert pack(one) == pack(two)
    assert names(pack(one)) == ["./run.sh", "./a", "./a/x", "./a-1", "./b", "./c"]


def test_own_files_and_empty_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "run.sh").write_text("only reserved at the top")
    (tmp_path / "leruli.bucket").write_text("x")
    (tmp_path / ".leruli-part-00").write_text("x")
    assert names(pack(tmp_path)) == ["./run.sh", "./deep", "./deep/run.sh", "./empty"]


def test_live_output_of_another_job_is_not_packed(tmp_path):
    """An older client fetches it as if it were a result."""
    live = tmp_path / ".leruli" / "live" / "1" / "out"
    live.mkdir(parents=True)
    (live / "000000000000000").write_text("step 1")
    (tmp_path / ".leruli" / "mine").write_text("input")
    (tmp_path / "below" / ".leruli" / "live").mkdir(parents=True)
    assert names(pack(tmp_path)) == [
        *("./run.sh", "./.leruli", "./.leruli/mine", "./below", "./below/.leruli"),
        "./below/.leruli/live",
    ]


def test_modes_and_owner(tmp_path):
    (tmp_path / "tool").write_text("x")
    (tmp_path / "tool").chmod(0o4755)
    with tarfile.open(fileobj=io.BytesIO(pack(tmp_path))) as tar:
        member = tar.getmember("./tool")
    assert (member.mode, member.uid, member.uname) == (0o755, 0, "")


def test_links_inside_are_stored_as_their_targets(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("content")
    (tmp_path / "link").symlink_to("real/file")
    (tmp_path / "folder").symlink_to("real")
    with tarfile.open(fileobj=io.BytesIO(pack(tmp_path))) as tar:
        assert tar.getmember("./link").isfile()
        assert tar.extractfile("./link").read() == b"content"
        assert tar.getmember("./folder").isdir()
        assert tar.extractfile("./folder/file").read() == b"content"


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("/etc/hostname", "out of the folder"),
        ("../sibling", "out of the folder"),
        ("nowhere", "points at nothing"),
        (".", "leads back"),
        ("..", "out of the folder"),
    ],
)
def test_links_that_cannot_be_stored(tmp_path, target, word):
    folder = tmp_path / "job"
    folder.mkdir()
    (tmp_path / "sibling").write_text("x")
    (folder / "bad link").symlink_to(target)
    with pytest.raises(RefusedError, match=f"bad link is a link that .*{word}"):
        take_inventory(str(folder))


def test_links_in_a_circle_through_each_other(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "to-b").symlink_to("../b")
    (tmp_path / "b" / "to-a").symlink_to("../a")
    with pytest.raises(RefusedError, match="leads back"):
        take_inventory(str(tmp_path))


def test_pipes_and_sockets_are_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    with pytest.raises(RefusedError, match="fifo is a pipe"):
        take_inventory(".")
    (tmp_path / "fifo").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        with pytest.raises(RefusedError, match="sock is a socket"):
            take_inventory(".")


@pytest.mark.parametrize("content", ["shorter", "longer than it was before"])
def test_a_file_that_changes_is_noticed(tmp_path, content):
    (tmp_path / "file").write_text("as it was found")
    inventory = take_inventory(str(tmp_path))
    (tmp_path / "file").write_text(content)
    with pytest.raises(RefusedError, match="changed while"):
        write_archive(inventory, "true", io.BytesIO())


def test_names_that_are_not_utf8(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9")).write_text("x")
    assert os.fsdecode(b"./caf\xe9") in names(pack(tmp_path))


def test_progress_counts_every_byte(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)
    seen = []
    write_archive(take_inventory(str(tmp_path)), "true", io.BytesIO(), seen.append)
    assert sum(seen) == 1_000_000


def test_run_script():
    assert run_script("psi4 größe.dat") == "#!/bin/bash\npsi4 größe.dat\n".encode()
    assert run_script(os.fsdecode(b"cat caf\xe9")) == b"#!/bin/bash\ncat caf\xe9\n"
    for bad in ("", "  \n", "a\0b"):
        with pytest.raises(RefusedError):
            run_script(bad)
