"""Describes the container of a further attempt, made as Nomad's docker driver made the first one.

Nomad's driver decides limits, mounts and security of a container. So Docker's description of the
first attempt's container is used again, with the image, folders and label of the further attempt.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from leruli_node.container.docker_engine import ATTEMPT_LABEL
from leruli_node.model import AttemptId

# The fields of Docker's description of a container that it takes to make another one.
_CONFIG = ("Entrypoint", "Cmd", "WorkingDir", "StopSignal", "StopTimeout")
# Docker fills these in by itself. It would refuse them from us, or take them for another container.
_NOT_HOST_CONFIG = ("ContainerIDFile",)
# Variables of Nomad that name the first attempt.
_OF_FIRST = ("NOMAD_META_",)


def container_like(inspected: dict[str, Any], image_environment: list[str]) -> dict[str, Any]:
    """Return the description of a container without its image, for the slot's file.

    Parameters
    ----------
    inspected
        Docker's description of the first attempt's container.
    image_environment
        The environment that its image sets. A further attempt may have another image.
    """
    config = inspected["Config"]
    host = {k: v for k, v in inspected["HostConfig"].items() if k not in _NOT_HOST_CONFIG}
    own = [
        entry
        for entry in config.get("Env") or []
        if entry not in image_environment and not entry.startswith(_OF_FIRST)
    ]
    kept = {name: config[name] for name in _CONFIG if config.get(name) is not None}
    labels = {k: v for k, v in (config.get("Labels") or {}).items() if k.startswith("leruli.")}
    return {**kept, "Env": own, "Labels": labels, "HostConfig": host}


def container_for(
    container: dict[str, Any], first: AttemptId, attempt: AttemptId, image: str
) -> dict[str, Any]:
    """Return the description of a further attempt's container.

    Every path of the first attempt's folder becomes the same path in the folder of this one.
    """
    text = json.dumps(container).replace(first.key, attempt.key)
    described = dict(json.loads(text))
    described["Image"] = image
    described["Labels"] = {**described.get("Labels", {}), ATTEMPT_LABEL: attempt.key}
    return described


def own_folders(described: dict[str, Any], job: Path) -> list[Path]:
    """Return the folders that a container mounts from `job`, the folder of its attempt.

    Nomad's driver made those of the first attempt, also the ones in the places of Nomad's.
    """
    host = described["HostConfig"]
    sources = [str(bind).split(":", 1)[0] for bind in host.get("Binds") or []]
    sources += [str(mount.get("Source") or "") for mount in host.get("Mounts") or []]
    return [Path(source) for source in sources if source.startswith(f"{job}/")]
