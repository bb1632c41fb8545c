"""get-started.sh prints what is missing with root's commands, and these commands help."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from e2e_world import StackOfTest
from hosts import Network
from machine import GET_STARTED, Machine, root_commands


@pytest.fixture(scope="module")
def machine(net: Network) -> Iterator[Machine]:
    """A machine on which only the README's first steps were done."""
    made = Machine(net.add("fresh"), StackOfTest(net.folder / "no-stack"))
    made.unpack()
    yield made
    made.host.close()


def test_root_may_not_run_it(machine: Machine) -> None:
    done = machine.host.shell(f"bash {GET_STARTED}", check=False)
    assert done.returncode == 2
    assert "su - leruli -c" in done.stderr


def test_help_shows_the_settings(machine: Machine) -> None:
    said = machine.check("--help").stdout
    assert "LERULI_NODE_DIR" in said
    assert "--dry-run" in said
    assert "set -euo" not in said


def test_every_missing_thing_is_named_and_root_commands_provide_it(machine: Machine) -> None:
    host = machine.host
    host.shell("sed -i /leruli/d /etc/subuid /etc/subgid; echo other:100000:65536 >>/etc/subuid")
    host.shell("rmdir /data/leruli/nomad; chown root: /data/leruli")
    host.shell("chmod u-s /usr/bin/newuidmap")
    # Stands in for a Docker that runs as root; the next for a kernel that has it switched off.
    host.shell("sleep 1000 >/dev/null 2>&1 & echo $! >/run/docker.pid")
    host.shell("echo 0 >/run/setting; mount --bind /run/setting /proc/sys/user/max_user_namespaces")
    pid = host.path("/run/docker.pid").read_text().strip()
    asked = machine.get_started()
    assert asked == [
        f"kill {pid}",
        "usermod --add-subuids 165536-231071 --add-subgids 165536-231071 leruli",
        "chmod u+s /usr/bin/newuidmap",
        "chmod 666 /dev/net/tun",
        "sysctl -w user.max_user_namespaces=28633 && echo 'user.max_user_namespaces=28633' "
        ">>/etc/sysctl.d/90-leruli-node.conf",
        "install -d -m 755 /run/user && install -d -m 700 -o leruli -g leruli /run/user/2013",
        "mkdir -p /data/leruli/nomad && chown leruli:leruli /data/leruli /data/leruli/nomad",
    ]


def test_a_second_run_changes_nothing(machine: Machine) -> None:
    """The present Docker and agent stay: jobs may run on them."""
    machine.get_started()
    before = machine.host.shell(
        "cat /run/user/2013/docker.pid; stat -c %i ~leruli/.local/share/*/*"
    )
    assert machine.get_started() == []
    after = machine.host.shell("cat /run/user/2013/docker.pid; stat -c %i ~leruli/.local/share/*/*")
    assert after.stdout == before.stdout


def test_check_and_dry_run_change_nothing(net: Network) -> None:
    made = Machine(net.add("untouched"), StackOfTest(net.folder / "no-stack"))
    made.unpack()
    made.host.shell("chmod 666 /dev/net/tun; install -d -m 700 -o leruli /run/user/2013")
    made.host.run("true", user="leruli")
    before = made.host.changes()
    checked, dry = made.check("--check"), made.check("--dry-run")
    after = made.host.changes()
    assert (checked.returncode, dry.returncode) == (0, 0), checked.stdout + dry.stdout
    assert "nothing is missing" in checked.stdout
    assert "install the node agent in /home/leruli/.local/share/leruli-node" in dry.stdout
    assert "dockerd-rootless.sh" in dry.stdout
    assert after == before
    assert made.host.processes() == []
    made.host.close()


@pytest.mark.parametrize(
    ("breaking", "mending", "sentence", "command"),
    [
        (
            "mv /usr/bin/newuidmap /usr/bin/slirp4netns /root",
            "mv /root/newuidmap /root/slirp4netns /usr/bin",
            "packages for rootless Docker: slirp4netns uidmap",
            "apt-get update && apt-get install -y --no-install-recommends slirp4netns uidmap",
        ),
        (
            "touch -d '+3 days' /opt/nomadrun/SHA256SUMS",
            "touch /opt/nomadrun/SHA256SUMS",
            "the clock is wrong",
            "date --set '…'    # then set up chrony or systemd-timesyncd",
        ),
        (
            "echo >>/opt/nomadrun/wheels/node.txt",
            "truncate -s -1 /opt/nomadrun/wheels/node.txt",
            "the package in /opt/nomadrun is damaged or was changed",
            "rm -r /opt/nomadrun    # then unpack nomadrun.tar again",
        ),
        (
            "mount -t tmpfs -o size=1M,uid=2013 full /data/leruli/nomad",
            "umount /data/leruli/nomad",
            "the disk for jobs (/data/leruli/nomad) is full",
            None,
        ),
        (
            "rm /dev/net/tun",
            "mknod -m 666 /dev/net/tun c 10 200",
            "/dev/net/tun, the network of rootless Docker",
            "chmod 666 /dev/net/tun",
        ),
    ],
    ids=["packages", "clock", "package", "disk", "tun"],
)
def test_check_names(
    machine: Machine, breaking: str, mending: str, sentence: str, command: str | None
) -> None:
    machine.host.shell(breaking)
    done = machine.check()
    machine.host.shell(mending)
    assert done.returncode == 3
    assert f"missing {sentence}" in done.stdout
    asked = root_commands(done.stdout)
    assert command in asked if command else asked == []
    assert "1 thing(s) are missing" in done.stderr
    assert machine.check().returncode == 0


def test_no_suitable_python(machine: Machine) -> None:
    done = machine.check(LERULI_NODE_PYTHON="/usr/bin/false")
    assert done.returncode == 3
    assert "missing no CPython 3.9 to 3.13 (LERULI_NODE_PYTHON=/usr/bin/false)" in done.stdout


def test_the_agent_is_not_replaced_while_it_runs(machine: Machine) -> None:
    """The files that stage running jobs out must not change."""
    host = machine.host
    host.shell("echo old >~/.local/share/leruli-node/made-from", user="leruli")
    host.shell("cd /data/leruli/nomad; echo 77 >agent.lock", user="leruli")
    # Stands in for the agent: it holds the agent's lock.
    host.shell("flock /data/leruli/nomad/agent.lock sleep 1000 >/dev/null 2>&1 &", user="leruli")
    done = machine.check()
    assert done.returncode == 3
    assert "missing an older node agent runs: drain it before it is replaced" in done.stdout
    host.shell("rm /data/leruli/nomad/agent.lock", user="leruli")
    assert machine.get_started() == []
