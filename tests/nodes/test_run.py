"""run.sh: its refusals, its sentences when it cannot connect, and their exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from subprocess import CompletedProcess

import pytest
from e2e_world import StackOfTest
from hosts import Network
from machine import RUN, Machine

ENV = "/opt/nomadrun/node.env"


@pytest.fixture(scope="module")
def machine(net: Network, stack: StackOfTest) -> Iterator[Machine]:
    """A machine that is ready, but was never connected."""
    made = Machine(net.add("ready"), stack)
    made.unpack()
    made.get_started()
    yield made
    made.host.close()


@pytest.fixture
def settings(machine: Machine) -> None:
    """A node.env as it should be."""
    machine.host.shell(f"install -m 600 -o root -g root {ENV}.example {ENV}")
    machine.write_settings()


def run(machine: Machine, **changes: str) -> CompletedProcess[str]:
    if changes:
        machine.write_settings(**changes)
    done = machine.host.shell(f"bash {RUN}", check=False, timeout=60)
    for name in ("group_token", "compute_secret", "object_store_secret"):
        assert machine.stack.secrets[name] not in done.stdout + done.stderr
    return done


def test_only_root_runs_it(machine: Machine) -> None:
    done = machine.host.shell(f"bash {RUN}", user="leruli", check=False)
    assert (done.returncode, "run.sh is for root" in done.stderr) == (2, True)


def test_without_settings(machine: Machine) -> None:
    machine.host.shell(f"rm -f {ENV}")
    done = run(machine)
    assert done.returncode == 78
    assert f"Make it: install -m 600 {ENV}.example {ENV}" in done.stderr


@pytest.mark.parametrize("change", ["chmod 640", "chmod 604", "chown leruli"])
@pytest.mark.usefixtures("settings")
def test_settings_that_others_can_read(machine: Machine, change: str) -> None:
    machine.host.shell(f"{change} {ENV}")
    done = run(machine)
    assert done.returncode == 78
    assert "holds secrets and can be used by others than root" in done.stderr
    assert f"Run: chown root: {ENV}; chmod 600 {ENV}" in done.stderr


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("LERULI_S3_SECRET lost-equals-sign", "is not NAME=VALUE."),
        ("LD_PRELOAD=/tmp/evil.so", "sets LD_PRELOAD, which is no setting of a node."),
    ],
)
@pytest.mark.usefixtures("settings")
def test_lines_that_are_not_settings(machine: Machine, line: str, sentence: str) -> None:
    path = machine.host.path(ENV)
    number = len(path.read_text().splitlines()) + 1
    with path.open("a") as file:
        file.write(line + "\n")
    done = run(machine)
    assert done.returncode == 78
    assert f"line {number} of {ENV} {sentence}" in done.stderr
    assert "equals-sign" not in done.stderr
    assert "evil" not in done.stderr


@pytest.mark.usefixtures("settings")
def test_nothing_in_the_settings_is_run(machine: Machine) -> None:
    done = run(machine, LERULI_NODE_NAME="$(touch /tmp/was-run)`touch /tmp/was-run`")
    assert done.returncode == 78
    assert "LERULI_NODE_NAME (letters, digits" in done.stderr
    assert not machine.host.path("/tmp/was-run").exists()


@pytest.mark.usefixtures("settings")
def test_a_package_that_the_user_can_change(machine: Machine) -> None:
    """A user who can change a file that root runs becomes root."""
    machine.host.shell("cp -r /opt/nomadrun /home/leruli/; chown -R leruli: /home/leruli/nomadrun")
    as_the_user = machine.host.shell("bash /home/leruli/nomadrun/run.sh", check=False)
    machine.host.shell("chown -R root: /home/leruli/nomadrun")
    in_a_folder_of_the_user = machine.host.shell("bash /home/leruli/nomadrun/run.sh", check=False)
    machine.host.shell("rm -r /home/leruli/nomadrun")
    for done in (as_the_user, in_a_folder_of_the_user):
        assert done.returncode == 1
        assert "can be changed by others than root" in done.stderr
        assert "tar -C /opt -xf nomadrun.tar" in done.stderr


@pytest.mark.usefixtures("settings")
def test_settings_that_are_missing_are_all_named(machine: Machine) -> None:
    done = run(machine, LERULI_S3_SECRET="", LERULI_GROUP_TOKEN="")
    assert done.returncode == 78
    assert "missing: LERULI_GROUP_TOKEN, LERULI_S3_SECRET" in done.stderr
    assert f"They are in {ENV}" in done.stderr


@pytest.mark.usefixtures("settings")
def test_no_secret_goes_to_a_default_address(machine: Machine) -> None:
    """D2: without LERULI_BASEURL the group's secrets went to api.leruli.com."""
    done = run(machine, LERULI_BASEURL="")
    assert done.returncode == 78
    assert f"LERULI_BASEURL is not set in {ENV}" in done.stderr
    assert "connecting" not in done.stdout


@pytest.mark.usefixtures("settings")
def test_a_service_that_is_away(machine: Machine) -> None:
    address = f"http://{machine.host.network.address}:1"
    done = run(machine, LERULI_BASEURL=address)
    assert done.returncode == 75
    assert f"the service at {address} cannot be reached" in done.stderr
    assert "not connected" in done.stderr


@pytest.mark.usefixtures("settings")
def test_another_program_at_the_address_of_the_service(machine: Machine) -> None:
    done = run(machine, LERULI_BASEURL=machine.settings()["LERULI_S3_SERVER"])
    assert done.returncode == 75
    assert "is not a Leruli Queue that is well" in done.stderr


@pytest.mark.usefixtures("settings")
def test_a_wrong_key_of_the_object_store(machine: Machine) -> None:
    done = run(machine, LERULI_S3_SECRET="wrong-wrong-wrong")
    assert done.returncode == 75
    assert "does not let this node in (SignatureDoesNotMatch)" in done.stderr


@pytest.mark.usefixtures("settings")
def test_a_wrong_compute_secret(machine: Machine) -> None:
    done = run(machine, LERULI_COMPUTE_SECRET=machine.stack.secrets["group_token"])
    assert done.returncode == 77
    assert "the service refuses this node" in done.stderr
    assert "The compute secret may have been rotated" in done.stderr


@pytest.mark.usefixtures("settings")
def test_nomads_servers_behind_a_firewall(machine: Machine) -> None:
    port = machine.stack.secrets["ports"]["nomad_rpc"]
    rule = f"OUTPUT -p tcp --dport {port} -j REJECT"
    machine.host.shell(f"iptables -A {rule}")
    done = run(machine)
    machine.host.shell(f"iptables -D {rule}")
    assert done.returncode == 75
    server = f"{machine.host.network.address}:{port}"
    assert f"none of Nomad's servers can be reached from here: {server}" in done.stderr


@pytest.mark.usefixtures("settings")
def test_a_second_one_is_refused_and_the_first_goes_on(machine: Machine) -> None:
    machine.start()
    machine.wait_until_ready()
    done = run(machine)
    assert done.returncode == 73
    assert "a node agent runs already with this folder" in done.stderr
    assert machine.is_ready()
    machine.stop()


@pytest.mark.usefixtures("settings")
def test_a_node_that_was_connected_waits_for_the_service(machine: Machine) -> None:
    """Unlike a new node: nobody may be there to start it again."""
    machine.write_settings(LERULI_BASEURL=f"http://{machine.host.network.address}:1")
    machine.start()
    machine.wait_to_say("this node was connected before: it starts all the same and waits")
    machine.wait_to_say("the service cannot be reached; trying again")
    machine.stop()


@pytest.mark.usefixtures("settings")
def test_without_get_started(machine: Machine) -> None:
    machine.host.shell("mv ~/.local/share/leruli-node ~/away", user="leruli")
    done = run(machine)
    machine.host.shell("mv ~/away ~/.local/share/leruli-node", user="leruli")
    assert done.returncode == 69
    assert "su - leruli -c 'bash /opt/nomadrun/get-started.sh'" in done.stderr


def test_no_unit_without_systemd(machine: Machine) -> None:
    done = machine.host.shell(f"bash {RUN} --install-unit", check=False)
    assert done.returncode == 1
    assert "this machine does not run systemd" in done.stderr
