"""Which machine this is, from FAKES of /etc/machine-id and of /sys/class/net."""

from __future__ import annotations

from pathlib import Path

from leruli_node.machine import Machine, this_machine


def machine(folder: Path, machine_id: str, *cards: str) -> Machine:
    """What would be seen on a machine with that id and cards of these addresses."""
    folder.mkdir()
    (folder / "machine-id").write_text(f"{machine_id}\n")
    for number, address in enumerate(cards):
        card = folder / "net" / f"eth{number}"
        (card / "device").mkdir(parents=True)
        (card / "address").write_text(f"{address}\n")
        (card / "addr_assign_type").write_text("0\n")
    return this_machine(folder / "machine-id", folder / "net")


def test_a_copy_with_a_new_machine_id_is_another_machine(tmp_path: Path) -> None:
    """M10: as cloud images and systemd-firstboot make it."""
    one, other = machine(tmp_path / "1", "aa", "0:1"), machine(tmp_path / "2", "bb", "0:1")
    assert other.is_another_than(one)
    assert not one.is_another_than(one)
    assert "aa" not in one.name


def test_a_copy_with_the_same_machine_id_is_told_by_its_network_card(tmp_path: Path) -> None:
    """M10: a disk that was copied as it is, ten times."""
    one, other = machine(tmp_path / "1", "aa", "0:1"), machine(tmp_path / "2", "aa", "0:2")
    assert other.is_another_than(one)
    # One of two cards was exchanged.
    assert not machine(tmp_path / "3", "aa", "0:2", "0:1").is_another_than(one)


def test_what_cannot_be_read_makes_no_other_machine(tmp_path: Path) -> None:
    """M10: nor does what an agent wrote that did not know of it yet."""
    unknown = this_machine(tmp_path / "nothing", tmp_path / "nothing")
    assert unknown == Machine()
    assert not unknown.is_another_than(machine(tmp_path / "1", "aa", "0:1"))
    assert not machine(tmp_path / "2", "aa", "0:1").is_another_than(Machine())
