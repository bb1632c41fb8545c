"""Properties of fetching results, for any content of the bucket and of the folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from hypothesis import strategies as st

from leruli.jobs.fetch import fetch
from leruli.storage.store import Store, StoredObject

PARTS = (
    *(
        "a",
        "b",
        "out",
        "ä",
        "o\u0308",
        "joblog.txt",
        "run.sh",
        "run.tgz",
        "a b",
        "-rf",
        "~",
        "$HOME",
    ),
    *("leruli.job", "leruli.bucket", "LERULI.BUCKET", "Leruli.Job", "leruli.batch-default"),
    *("leruli.history", ".git", ".GIT", ".leruli-part-1", "link", "inner", "dangling", "folder"),
    *(
        "..",
        ".",
        "",
        "...",
        "..a",
        "config",
        "hooks",
        "a\\b",
        "..\\x",
        "c:",
        "x\n",
        "\u202e",
        "n" * 255,
    ),
)
# Names at the top of the folder that fetching must never change or make.
PROTECTED = ("leruli.job", "leruli.bucket", "leruli.batch-default", "leruli.history")

NAMES = st.one_of(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("/".join),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map(
        lambda parts: "/".join(parts) + "/"
    ),
    st.builds(lambda name, depth: "d/" * depth + name, st.sampled_from(PARTS), st.integers(1, 60)),
)
OBJECTS = st.dictionaries(NAMES, st.binary(max_size=200), max_size=8)
# By name in the folder: a file, a folder, or the target of a link.
FOUND = st.dictionaries(
    st.sampled_from(("link", "inner", "dangling", "folder", "a", "b", "out", "d")),
    st.sampled_from(("file", "folder", "../outside", "..", "folder", "missing", "/")),
    max_size=5,
)


def prepare(top: Path, found: Mapping[str, str]) -> Path:
    """Make a job folder with content, and a folder beside it; return the job folder."""
    outside, folder = top / "outside", top / "job"
    (outside / "a").mkdir(parents=True)
    (outside / "out").write_bytes(b"outside")
    (folder / ".git" / "hooks").mkdir(parents=True)
    (folder / ".git" / "config").write_bytes(b"[core]")
    (folder / "leruli.history").mkdir()
    for name in PROTECTED[:3]:
        (folder / name).write_bytes(b"own")
    for name, what in found.items():
        if what == "file":
            (folder / name).write_bytes(b"before")
        elif what == "folder" and name != "link":
            (folder / name).mkdir()
        else:
            (folder / name).symlink_to(what)
    return folder


def check_fetch(
    store: Store,
    bucket: str,
    folder: Path,
    objects: Mapping[str, bytes],
    is_odd: Callable[[str], bool] = lambda _: False,
) -> None:
    """Fetch, then check the folder; `is_odd` names objects at which the store breaks off."""
    top = folder.parent
    before = snapshot(top)
    items = [StoredObject(name, len(content), None) for name, content in objects.items()]
    fetched = fetch(store, bucket, items, str(folder))
    after = snapshot(top)

    assert len(fetched.files) == len(set(fetched.files))
    names = {beside: name for name, beside in fetched.beside.items()}
    fetched_or_refused = [*(names.get(path, path) for path in fetched.files), *fetched.refused]
    unsaid = [n for n in objects if n not in fetched_or_refused and not n.endswith("/")]
    assert unsaid == [], "neither fetched nor refused"
    assert all(fetched.refused.values()), "refused without a sentence"
    assert not set(fetched.files) & set(fetched.refused)
    for file in fetched.files:
        name = names.get(file, file)
        assert not is_odd(name)
        path = folder / file
        assert stat.S_ISREG(path.lstat().st_mode)
        assert path.read_bytes() == objects[name], f"{name} is not complete"
    # Fetching follows a link within the folder.
    told = {str((folder / file).resolve().relative_to(folder.resolve())) for file in fetched.files}
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    for name in changed:
        assert name not in before, f"{name} was there, and nothing says that it may be replaced"
        first, _, below = name.partition("/")
        assert first == "job", f"{name} was changed, which is outside of the folder"
        parts = below.casefold().split("/")
        assert ".git" not in parts, f"{below} was changed"
        assert not parts[0].startswith("leruli."), f"{below} was changed"
        # Fetching may have made parent folders of an object that it then refused.
        is_made_folder = after.get(name) == "folder"
        assert is_made_folder or below in told, f"{below} was changed and is not told of"


def snapshot(top: Path) -> dict[str, bytes | str]:
    """Return for each name below a folder its content, its target, or its kind."""
    found: dict[str, bytes | str] = {}
    for folder, folders, files in os.walk(top, followlinks=False):
        for name in folders + files:
            path = Path(folder, name)
            key = str(path.relative_to(top))
            if path.is_symlink():
                found[key] = f"-> {path.readlink()}"
            elif path.is_dir():
                found[key] = "folder"
            else:
                found[key] = path.read_bytes()
    return found
