import pytest

from leruli.errors import RefusedError
from leruli.folder.object_paths import make_place
from leruli.images.published import list_codes, local_image_size
from leruli.storage.store import StoredObject


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../x", "a/../../x", "a//b", "./x", "a/./b", "..", "nul\0", "/"),
        *("leruli.job", "leruli.bucket"),
    ],
)
def test_names_refused(tmp_path, name):
    root = tmp_path / "job"
    root.mkdir()
    with pytest.raises(RefusedError):
        make_place(root, name)
    assert list(root.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["job"]


def test_names_accepted(tmp_path):
    assert make_place(tmp_path, "a b/ü/..c") == tmp_path / "a b" / "ü" / "..c"
    make_place(tmp_path, "folder/")
    assert (tmp_path / "folder").is_dir()
    (tmp_path / "inner").symlink_to("folder")
    assert make_place(tmp_path, "inner/file") == tmp_path / "inner" / "file"


def test_links_out_of_the_folder(tmp_path):
    root = tmp_path / "job"
    root.mkdir()
    (root / "up").symlink_to("..")
    with pytest.raises(RefusedError, match="leads out"):
        make_place(root, "up/x")
    (root / "dangling").symlink_to(tmp_path / "made-by-following")
    with pytest.raises(RefusedError, match="leads out"):
        make_place(root, "dangling/x")
    assert not (tmp_path / "made-by-following").exists()


def test_codes_are_split_at_the_last_dash():
    class Bucket:
        def list(self, bucket):
            names = ["psi4-1.5.tgz", "open-babel-3.1.tgz", "notes.txt", "nodash.tgz"]
            return [StoredObject(name, 1, None) for name in names]

    class Tokens:
        all = ("token",)

    found = [(one.code, one.version) for one in list_codes(Bucket(), Tokens())]
    assert found == [("open-babel", "3.1"), ("psi4", "1.5")]


@pytest.mark.parametrize(
    ("code", "version"),
    [("psi4", "1.5-rc1"), ("psi4", ""), ("a/b", "1"), ("Psi4", "1"), ("-x", "1"), ("psi4", "-rm")],
)
def test_names_that_cannot_be_published(code, version):
    with pytest.raises(RefusedError, match="cannot be"):
        local_image_size(code, version)
