"""The scripts where systemd is. None runs on the machines of the tests, so `systemctl`,
`loginctl` and `timedatectl` are fakes, the first two of which note how they are called; the real
systemd-analyze judges the units."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from e2e_world import StackOfTest
from hosts import Network, run
from machine import RUN, Machine, root_commands

_CALLS = "/tmp/calls"
# Starting the user's Docker does what the unit says.
_SYSTEMCTL = rf"""#!/bin/bash
echo "$(id -un): $*" >>{_CALLS}
case "$*" in
is-enabled*) exit 1 ;;
"--user start docker.service")
    unit=~/.config/systemd/user/docker.service
    export "$(sed -n 's/^Environment=//p' $unit)"
    setsid $(sed -n 's/^ExecStart=//p' $unit) >/tmp/dockerd.log 2>&1 </dev/null & ;;
esac
"""
_LOGINCTL = f"""#!/bin/bash
echo "$(id -un): loginctl $*" >>{_CALLS}
mkdir -p /var/lib/systemd/linger && touch "/var/lib/systemd/linger/$2"
"""
_TIMEDATECTL = """#!/bin/bash
case "$1" in
show) cat /var/lib/systemd/synchronized 2>/dev/null || echo no ;;
set-ntp) echo yes >/var/lib/systemd/synchronized ;;
esac
"""
_FAKES = {"systemctl": _SYSTEMCTL, "loginctl": _LOGINCTL, "timedatectl": _TIMEDATECTL}


@pytest.fixture(scope="module")
def machine(net: Network) -> Iterator[Machine]:
    """A machine with the files of systemd and lingering that the scripts check."""
    made = Machine(net.add("systemd"), StackOfTest(net.folder / "no-stack"))
    made.unpack()
    for name, text in _FAKES.items():
        made.host.path(f"/usr/local/bin/{name}").write_text(text)
        made.host.shell(f"chmod 755 /usr/local/bin/{name}")
    made.host.shell(f"mkdir -p /run/systemd/system; install -m 666 /dev/null {_CALLS}")
    made.host.shell("chmod 666 /dev/net/tun; install -d -m 700 -o leruli /run/user/2013")
    make_bus(made)
    yield made
    made.host.close()


def make_bus(machine: Machine) -> None:
    """Make the socket of the user's message bus. Nobody listens on it."""
    bus = "import socket; socket.socket(socket.AF_UNIX).bind('/run/user/2013/bus')"
    machine.host.run("python3", "-c", bus, user="leruli")


def calls(machine: Machine) -> list[str]:
    return machine.host.path(_CALLS).read_text().splitlines()


def verify(machine: Machine, unit: str, *, user: bool) -> None:
    """Have systemd itself read a unit of the host."""
    folder = machine.host.folder / "units"
    folder.mkdir(exist_ok=True)
    copy = folder / unit.rsplit("/", 1)[1]
    copy.write_text(machine.host.path(unit).read_text().replace("/opt/nomadrun/", "/bin/"))
    mode = "--user" if user else "--system"
    done = run("systemd-analyze", mode, "verify", copy, env={"XDG_RUNTIME_DIR": str(folder)})
    assert done.stdout + done.stderr == ""


def test_the_users_docker_is_a_unit_of_the_user(machine: Machine) -> None:
    machine.host.shell("rm -rf /var/lib/systemd/linger")
    assert machine.get_started() == ["loginctl enable-linger leruli", "timedatectl set-ntp true"]
    assert "root: loginctl enable-linger leruli" in calls(machine)
    for call in ("--user daemon-reload", "--user enable --quiet docker.service"):
        assert f"leruli: {call}" in calls(machine)
    assert [line for line in machine.host.processes() if line == "dockerd"]
    unit = "/home/leruli/.config/systemd/user/docker.service"
    verify(machine, unit, user=True)
    assert "Delegate=yes" in machine.host.path(unit).read_text()


def test_a_user_without_a_message_bus(machine: Machine) -> None:
    machine.host.shell("rm /run/user/2013/bus")
    done = machine.check()
    make_bus(machine)
    assert done.returncode == 3
    assert "missing the user's message bus (/run/user/2013/bus)" in done.stdout
    assert root_commands(done.stdout) == [
        "apt-get update && apt-get install -y --no-install-recommends dbus-user-session",
        "systemctl restart user@2013.service",
    ]


def test_a_unit_of_another_author_stays(machine: Machine) -> None:
    machine.get_started()
    unit = machine.host.path("/home/leruli/.config/systemd/user/docker.service")
    ours = unit.read_text()
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    said = machine.host.shell("bash /opt/nomadrun/get-started.sh", user="leruli").stdout
    assert "is not ours and stays as it is" in said
    assert unit.read_text() == "[Service]\nExecStart=/bin/true\n"
    unit.write_text(ours)


def test_cgroups_are_delegated_by_root_commands(machine: Machine) -> None:
    """The files stand in for cgroup v2, which the machines of the tests do not have."""
    slice_ = "/sys/fs/cgroup/user.slice/user-2013.slice/user@2013.service"
    machine.host.shell(f"mount -t tmpfs cgroup2 /sys/fs/cgroup; mkdir -p {slice_}")
    machine.host.shell(
        f"echo pids >{slice_}/cgroup.controllers; touch /sys/fs/cgroup/cgroup.controllers"
    )
    done = machine.check()
    assert "missing cgroup v2 without the controllers cpu memory for leruli" in done.stdout
    for command in root_commands(done.stdout):
        machine.host.shell(command)
    drop_in = machine.host.path("/etc/systemd/system/user@.service.d/delegate.conf").read_text()
    assert drop_in == "[Service]\nDelegate=cpu cpuset io memory pids\n"
    assert "root: restart user@2013.service" in calls(machine)
    machine.host.shell(f"echo cpuset cpu io memory pids >{slice_}/cgroup.controllers")
    done = machine.check()
    machine.host.shell("umount /sys/fs/cgroup")
    assert (done.returncode, "cpu, memory, pids delegated" in done.stdout) == (0, True)


def test_run_sh_as_a_unit_and_back(machine: Machine) -> None:
    machine.get_started()
    env = "/opt/nomadrun/node.env"
    machine.host.shell(f"install -m 600 {env}.example {env}")
    machine.host.shell(f"echo LERULI_NODE_DRAIN_SECONDS=300 >>{env}; bash {RUN} --install-unit")
    unit = "/etc/systemd/system/leruli-node.service"
    text = machine.host.path(unit).read_text()
    verify(machine, unit, user=False)
    assert f'ExecStart=/bin/bash "{RUN}"\n' in text
    assert "TimeoutStopSec=420\n" in text
    assert "user@2013.service" in text
    assert calls(machine)[-3:] == [
        "root: daemon-reload",
        "root: enable --quiet leruli-node.service",
        "root: restart leruli-node.service",
    ]
    done = machine.host.shell("bash /opt/nomadrun/uninstall.sh --yes --keep-data")
    assert "root: disable --now --quiet leruli-node.service" in calls(machine)
    assert "leruli: --user disable --now --quiet docker.service" in calls(machine)
    assert not machine.host.path(unit).exists()
    assert machine.host.shell("find ~leruli/.config", check=False).stdout == ""
    assert not machine.host.path("/opt/nomadrun").exists()
    # --keep-data
    assert machine.host.path("/home/leruli/.local/share/docker").exists()
    assert "loginctl disable-linger leruli" in done.stdout
