"""Describes a shared container, made as Nomad's docker driver made the slot's first container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from leruli_node.container.docker_engine import ATTEMPT_LABEL, SHARED_LABEL
from leruli_node.model import AttemptId

_CONTROL = "/leruli"
_RUNNER = f"{_CONTROL}/runner"


def shared_container_for(
    container: dict[str, Any], first: AttemptId, id_: str, image: str, runner: Path
) -> dict[str, Any]:
    """Return the description of a shared container.

    Parameters
    ----------
    container
        The description of the first attempt's container: made.py.
    first
        The slot's first attempt. Every path of its folder becomes the same path in the folder
        .shared/`id_`.
    image
        Docker's id of the image.
    runner
        The program leruli-runner.
    """
    text = json.dumps(container).replace(f"/{first.key}/", f"/.shared/{id_}/")
    described = dict(json.loads(text))
    described["Image"] = image
    described["Entrypoint"] = [_RUNNER, f"{_CONTROL}/agent.sock"]
    described["Cmd"] = []
    labels = {k: v for k, v in described.get("Labels", {}).items() if k != ATTEMPT_LABEL}
    described["Labels"] = {**labels, SHARED_LABEL: id_}
    host = described["HostConfig"]
    # The runner has to be the first process.
    host["Init"] = False
    host["Binds"] = [
        *(_with_control_read_only(str(bind)) for bind in host.get("Binds") or []),
        f"{runner}:{_RUNNER}:ro",
    ]
    for mount in host.get("Mounts") or []:
        if mount.get("Target") == _CONTROL:
            mount["ReadOnly"] = True
    return described


def _with_control_read_only(bind: str) -> str:
    """Return a bind of Docker's, SOURCE:TARGET[:OPTIONS]. No job may replace the socket."""
    source, target, *_ = bind.split(":")
    return f"{source}:{target}:ro" if target == _CONTROL else bind
