"""Which machine this is, by FAKES of /etc/machine-id and /sys/class/net."""

from __future__ import annotations

from pathlib import Path

from leruli_node.machine import Machine, this_machine


def machine(folder: Path, machine_id: str, *cards: str) -> Machine:
    """Return the machine with that id and network cards of these addresses."""
    folder.mkdir()
    (folder / "machine-id").write_text(f"{machine_id}\n")
    for number, address in enumerate(cards):
        card = folder / "net" / f"eth{number}"
        (card / "device").mkdir(parents=True)
        (card / "address").write_text(f"{address}\n")
        (card / "addr_assign_type").write_text("0\n")
    return this_machine(folder / "machine-id", folder / "net")


def test_a_copy_with_a_new_machine_id_is_another_machine(tmp_path: Path) -> None:
    """M10: cloud images and systemd-firstboot do this."""
    one, other = machine(tmp_path / "1", "aa", "0:1"), machine(tmp_path / "2", "bb", "0:1")
    assert other.is_another_than(one)
    assert not one.is_another_than(one)
    assert "aa" not in one.name


def test_a_copy_with_the_same_machine_id_is_recognised_by_its_network_card(tmp_path: Path) -> None:
    """M10: a disk that was copied unchanged, ten times."""
    one, other = machine(tmp_path / "1", "aa", "0:1"), machine(tmp_path / "2", "aa", "0:2")
    assert other.is_another_than(one)
    # One of two cards was replaced.
    assert not machine(tmp_path / "3", "aa", "0:2", "0:1").is_another_than(one)


def test_unreadable_facts_make_no_other_machine(tmp_path: Path) -> None:
    """M10: the facts of an older agent, which did not know these, do not either."""
    unknown = this_machine(tmp_path / "nothing", tmp_path / "nothing")
    assert unknown == Machine()
    assert not unknown.is_another_than(machine(tmp_path / "1", "aa", "0:1"))
    assert not machine(tmp_path / "2", "aa", "0:1").is_another_than(Machine())
