"""Joins the service, which answers the node's id and Nomad's servers."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

from leruli_node import __version__
from leruli_node.errors import EXIT_REFUSED, AgentError, StoppedError
from leruli_node.node_facts import NodeFacts
from leruli_node.retry import Stop
from leruli_node.service.membership import Certificate, Membership
from leruli_node.service.service_api import (
    RefusedError,
    RejectedError,
    ServiceApi,
    StaleError,
    wait_for_service,
)
from leruli_node.settings import Settings

log = logging.getLogger(__name__)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_PREFIX = re.compile(r"[a-z0-9][a-z0-9./_-]{0,127}\Z")


def join(
    settings: Settings, api: ServiceApi, earlier: NodeFacts, request: str, stop: Stop
) -> Membership:
    """Join the service. Wait for it without limit.

    Parameters
    ----------
    settings, api, stop
        The agent's.
    earlier
        Facts of an earlier run.
    request
        The signing request for the certificate of Nomad's client.

    Raises
    ------
    AgentError
        The service refuses this node.
    StoppedError
        The agent is being stopped.
    """
    body = {
        "computesecret": settings.compute_secret,
        "grouptoken": settings.group_token,
        "nodeid": earlier.nodeid,
        "name": settings.node_name,
        "cores": settings.cores,
        "memorymb": settings.memory_mb,
        "agentversion": __version__,
        "csr": request,
    }
    try:
        answer = _ask(api, body, stop, 0.0 if earlier.nodeid is None else settings.refused_seconds)
        joined = _parse(answer)
        api.set_token(str(answer["nodetoken"]))
    except RefusedError as error:
        raise AgentError(
            f"the service refuses this node: {str(error).rstrip('.')}. Check "
            "LERULI_COMPUTE_SECRET and LERULI_GROUP_TOKEN; either may have been rotated.",
            EXIT_REFUSED,
        ) from None
    except (RejectedError, StaleError) as error:
        raise AgentError(f"the service does not take this node: {error}.", EXIT_REFUSED) from None
    except (KeyError, TypeError, ValueError):
        raise AgentError(
            "the service's answer to node-join is not understood.", EXIT_REFUSED
        ) from None
    log.info("joined", extra={"node": joined.nodeid, "pool": joined.pool})
    return joined


def _ask(api: ServiceApi, body: dict[str, Any], stop: Stop, certain_after: float) -> dict[str, Any]:
    """Call node-join. Believe a refusal only if it is repeated `certain_after` seconds later.

    A refusal ends a node for good. An operator who connects a new node gets it at once.
    """
    believed_at = time.monotonic() + certain_after
    while True:
        try:
            return wait_for_service(api, body, stop)
        except RefusedError as error:
            left = believed_at - time.monotonic()
            if left <= 0:
                raise
            log.warning("the service refuses this node: %s; asking again", error)
        if stop.wait(min(left, 30.0)):
            raise StoppedError


def _parse(answer: dict[str, Any]) -> Membership:
    nomad = answer["nomad"]
    joined = Membership(
        nodeid=str(answer["nodeid"]),
        imageprefix=str(answer["imageprefix"]),
        servers=[str(server) for server in nomad["servers"]],
        region=str(nomad["region"]),
        datacenter=str(nomad["datacenter"]),
        pool=str(nomad["pool"]),
        introtoken=str(nomad["introtoken"]),
        certificate=Certificate.parse(answer["tls"]),
        report_seconds=float(answer["reportseconds"]),
        imagetokens=answer.get("imagetokens"),
    )
    if not _UUID.match(joined.nodeid) or not _PREFIX.match(joined.imageprefix):
        raise ValueError("node id or image prefix")
    if not joined.servers:
        raise ValueError("no servers")
    return joined
