"""nomadrun.tar: a fresh machine becomes a node by the README, works, drains, and is left clean."""

from __future__ import annotations

import subprocess
from pathlib import Path

from e2e_world import StackOfTest, wait_for
from machine import RUN, Machine

# Programs of the distribution leave these when a user or a package comes and goes.
_NOT_OURS = ("/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/subuid-")
_NOT_OURS += (
    "/etc/subgid-",
    "/etc/.pwd.lock",
    "/var/mail/",
    "/var/cache/",
    "/var/lib/apt/",
    "/var/log/",
    "/tmp/plugin",  # an empty socket of a Nomad plugin that was ended with the machine's jobs
)


def test_a_job_runs_on_a_node_that_was_made_by_the_readme(
    node: Machine, stack: StackOfTest, folder: Path
) -> None:
    (folder / "input.dat").write_text("42\n")
    stack.submit(folder, "cp input.dat output.dat; id -u >who")
    assert stack.end(folder) == ("completed", None)
    stack.get(folder)
    assert (folder / "output.dat").read_text() == "42\n"
    (ran_on,) = stack.fetch("SELECT nodes.name FROM jobs JOIN nodes ON nodes.id = jobs.node_id")
    assert ran_on["name"] == node.host.name
    said = node.said()
    assert f"the service answers at {stack.user['LERULI_BASEURL']}" in said
    assert "joined" in said


def test_nothing_of_it_runs_as_root_but_run_sh(node: Machine) -> None:
    mine = node.host.processes("root")
    assert [line for line in mine if RUN in line]
    left = [line for line in mine if RUN not in line and not line.startswith(("ps ", "sleep "))]
    # Process 1 of the host belongs to the tests.
    assert all("host_init.py" in line for line in left), left
    theirs = " ".join(node.host.processes("leruli"))
    agent = "grep NoNewPrivs /proc/$(cat /data/leruli/nomad/agent.lock)/status"
    assert node.host.shell(agent).stdout.split() == ["NoNewPrivs:", "1"]
    for program in ("leruli-node run", "nomad agent", "dockerd", "rootlesskit"):
        assert program in theirs


def test_the_node_has_the_runner_of_shared_containers(node: Machine) -> None:
    """It runs in containers as the user of any image."""
    link = "/home/leruli/.local/share/leruli-node/venv/bin/leruli-runner"
    program = node.host.shell(f"readlink -f {link}", user="leruli").stdout.strip()
    said = node.host.shell(f"setpriv --reuid 65534 --clear-groups {program} -version").stdout
    assert said == "leruli-runner 1.0\n"
    assert node.host.shell(f"stat -c '%U %a' {program}").stdout == "root 755\n"


def test_no_secret_where_others_can_read_it(node: Machine, stack: StackOfTest) -> None:
    listed = node.host.shell("ps -eo args; cat /data/leruli/nomad/*.json").stdout + node.said()
    for name in ("group_token", "compute_secret", "object_store_secret"):
        assert stack.secrets[name] not in listed


def test_docker_that_dies_is_started_again(node: Machine, stack: StackOfTest, folder: Path) -> None:
    """Without systemd run.sh does that."""
    node.host.shell("kill -KILL $(cat /run/user/2013/docker.pid)")
    node.wait_to_say("starting it again")
    stack.submit(folder, "echo done")
    assert stack.end(folder) == ("completed", None)


def test_term_lets_short_jobs_end_and_requeues_long_ones(
    node: Machine, stack: StackOfTest, tmp_path: Path
) -> None:
    short, long = tmp_path / "short", tmp_path / "long"
    gated = "until [ -e gate ]; do sleep 0.1; done; rm gate; echo whole"
    for each, command in ((short, gated), (long, "echo begun; sleep 1000")):
        each.mkdir()
        stack.submit(each, command)
    for each in (short, long):
        stack.wait_for_state(each, "running")
    node.signal("TERM")
    # Not by time: on a slow machine the job could be over when it is seen running.
    [rundir] = node.rundirs((short / "leruli.job").read_text().strip())
    (rundir / "gate").touch()
    assert node.wait_for_end(60) == 0, node.said()
    assert node.said().rstrip().endswith("its jobs have ended or are in the queue again")
    assert stack.status(short)[0] == "completed"
    assert stack.status(long)[0] in ("received", "submitted")
    assert not [line for line in node.host.processes() if "leruli-node" in line or "nomad" in line]
    # It comes back and recovers the long job.
    node.start()
    node.wait_until_ready()
    stack.wait_for_state(long, "running")
    assert stack.leruli(long, "task-cancel").returncode == 0
    assert stack.end(long)[0] == "cancelled"


def test_run_sh_killed_drains_and_leaves_nothing_of_root(node: Machine) -> None:
    node.signal("KILL")
    wait_for(
        lambda: "leruli-node" not in " ".join(node.host.processes()),
        seconds=30,
        what="the agent has ended",
    )
    node.wait_to_say('"message": "ended"}')
    wait_for(
        lambda: RUN not in " ".join(node.host.processes("root")),
        seconds=10,
        what="what kept Docker has ended",
    )
    node.start()
    node.wait_until_ready()


def test_power_off_and_on(node: Machine, stack: StackOfTest, folder: Path) -> None:
    """/run is empty, Docker's files in it are gone, and process ids start again."""
    node.host.power_off()
    node.host.start()
    node.start()
    node.wait_until_ready()
    stack.submit(folder, "echo done")
    assert stack.end(folder) == ("completed", None)


def test_ctrl_c_in_a_terminal_drains(node: Machine) -> None:
    node.stop()
    log = node.host.folder / "terminal.log"
    with log.open("wb") as file:
        terminal = subprocess.Popen(
            node.host.command("script", "-qefc", f"exec bash {RUN}", "/dev/null"),
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
        )
    assert terminal.stdin is not None
    wait_for(lambda: "Nomad started" in log.read_text(), seconds=30, what="the log is shown")
    terminal.stdin.write(b"\x03")
    terminal.stdin.flush()
    assert terminal.wait(30) == 0, log.read_text()
    said = log.read_text()
    # Text for a person. Ctrl-C reached the agent once: twice would have ended the wait.
    assert " info    joined" in said
    assert said.count("shutting down") == 1
    assert "left the service" in said
    assert "this node has left" in said
    node.start()
    node.wait_until_ready()


def test_uninstall_asks(node: Machine) -> None:
    alone = node.host.shell("setsid -w bash /opt/nomadrun/uninstall.sh", check=False)
    assert alone.returncode == 1
    assert "nobody answers; use --yes" in alone.stderr
    asked = node.host.shell(
        "echo no | script -qec 'bash /opt/nomadrun/uninstall.sh' /dev/null", check=False
    )
    assert asked.returncode == 1
    assert "Go on? (yes/no)" in asked.stdout
    assert "nothing was changed" in asked.stdout
    assert node.is_ready()


def test_uninstall_stops_where_results_are_not_uploaded(node: Machine) -> None:
    node.stop()
    # Stands in for a receipt that the service has not accepted.
    receipt = "/data/leruli/nomad/receipts/left.json"
    node.host.shell(f"echo '{{}}' >{receipt}", user="leruli")
    done = node.host.shell("bash /opt/nomadrun/uninstall.sh --yes", check=False)
    assert done.returncode == 3
    assert "1 result(s) or receipt(s) of jobs are not with the service yet" in done.stderr
    node.host.shell(f"rm {receipt}", user="leruli")
    node.start()
    node.wait_until_ready()


def test_uninstall_leaves_nothing(node: Machine) -> None:
    done = node.host.shell("bash /opt/nomadrun/uninstall.sh --yes", timeout=60)
    assert node.wait_for_end(10) == 0
    assert node.host.processes() == []
    # And the commands that it prints to remove what was made by hand.
    named = [line.strip() for line in done.stdout.partition("as root:\n")[2].splitlines()]
    by_hand = [line for line in named if line.startswith(("userdel", "rm "))]
    assert len(by_hand) == 2
    for command in by_hand:
        node.host.shell(command)
    left = [path for path in node.host.changes() if not path.startswith(_NOT_OURS)]
    assert left == []
