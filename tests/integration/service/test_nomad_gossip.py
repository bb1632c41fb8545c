"""Who can become a server of a Nomad cluster that is set up as docs/admins/operate.md says."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from nomad_world import NomadOfTest

from leruli_queue.embedded import nomad_server
from leruli_queue.embedded.ports import free_ports
from leruli_queue.embedded.programs import Programs


def members(nomad: NomadOfTest) -> list[str]:
    with nomad_server.client(nomad.folders, nomad.state) as http:
        answer = http.get("/v1/agent/members").raise_for_status().json()
    return [member["Name"] for member in answer["Members"]]


def test_a_server_without_the_key_does_not_become_a_member(
    other_nomad: NomadOfTest, programs: Programs, tmp_path: Path
) -> None:
    """D5: a server without certificate or token became a member, and a peer of Raft."""
    http, rpc, serf = free_ports(3)
    configuration = {
        "name": "rogue",
        "data_dir": str(tmp_path / "rogue"),
        "bind_addr": "127.0.0.1",
        "ports": {"http": http, "rpc": rpc, "serf": serf},
        "advertise": {
            "http": f"127.0.0.1:{http}",
            "rpc": f"127.0.0.1:{rpc}",
            "serf": f"127.0.0.1:{serf}",
        },
        "server": {
            "enabled": True,
            "server_join": {
                "retry_join": [f"127.0.0.1:{other_nomad.state.ports.nomad_serf}"],
                "retry_interval": "1s",
            },
        },
    }
    path, log = tmp_path / "rogue.json", tmp_path / "rogue.log"
    path.write_text(json.dumps(configuration))
    with log.open("wb") as output:
        rogue = subprocess.Popen(
            [programs.nomad, "agent", "-config", path], stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 60
        # It retries. Once it is a member, its log says so.
        while (said := log.read_text()).count("join failed") < 3 and "join completed" not in said:
            assert time.monotonic() < deadline, said[-2000:]
            time.sleep(0.1)
        assert [name for name in members(other_nomad) if "rogue" in name] == []
        assert len(members(other_nomad)) == 1
    finally:
        rogue.terminate()
        rogue.wait(30)
