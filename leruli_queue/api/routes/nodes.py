"""Calls about a group's nodes: its members list them, its admins drain, resume and remove them."""

from __future__ import annotations

from fastapi import APIRouter

from leruli_queue.access.authorise import authorise_reader_or_admin
from leruli_queue.access.roles import Call
from leruli_queue.api.context import ContextDep
from leruli_queue.api.schemas.common import problems
from leruli_queue.api.schemas.nodes import (
    ChangedNode,
    DrainNode,
    GroupNodes,
    GroupNodesAnswer,
    OneNode,
    RemovedNode,
    ShownNode,
)
from leruli_queue.jobs.retries import Retries
from leruli_queue.nodes.administer import drain_node, remove_node, resume_node
from leruli_queue.nodes.overview import NodeOverview, list_nodes
from leruli_queue.nodes.standing import Standing

router = APIRouter(tags=["nodes"], responses=problems())

_ONE_NODE = problems(
    {
        404: "The group has no such node.",
        409: "Several nodes have the name; use an id.",
    }
)


@router.post(f"/{Call.GROUP_NODES}")
async def group_nodes(body: GroupNodes, context: ContextDep) -> GroupNodesAnswer:
    """List the nodes of the group, with the reason if a node gets no jobs."""
    async with context.reading() as connection:
        group_id = await authorise_reader_or_admin(
            connection,
            Call.GROUP_NODES,
            group_token=body.grouptoken,
            admin_secret=body.adminsecret,
        )
        nodes = await list_nodes(connection, group_id, limit=body.limit, after=body.after)
    return GroupNodesAnswer(
        nodes=[_shown(node) for node in nodes],
        next=nodes[-1].id if len(nodes) == body.limit else None,
    )


@router.post(f"/{Call.GROUP_NODE_DRAIN}", responses=_ONE_NODE)
async def group_node_drain(body: DrainNode, context: ContextDep) -> ChangedNode:
    """Drain a node: it gets no more jobs until it is resumed. Its running jobs may end."""
    node = await drain_node(
        context.writing, context.gate, body.adminsecret, body.node, body.deadline
    )
    return ChangedNode(nodeid=node.id, name=node.name)


@router.post(f"/{Call.GROUP_NODE_RESUME}", responses=_ONE_NODE)
async def group_node_resume(body: OneNode, context: ContextDep) -> ChangedNode:
    """Give jobs again to a node that was drained, or is in quarantine for its failures."""
    node = await resume_node(context.writing, context.gate, body.adminsecret, body.node)
    return ChangedNode(nodeid=node.id, name=node.name)


@router.post(f"/{Call.GROUP_NODE_REMOVE}", responses=_ONE_NODE)
async def group_node_remove(body: OneNode, context: ContextDep) -> RemovedNode:
    """Remove a node for good. Its jobs are stopped and run on other nodes."""
    retries = Retries.of(context.settings)
    node, requeued = await remove_node(context.writing, body.adminsecret, body.node, retries)
    return RemovedNode(nodeid=node.id, name=node.name, requeued=requeued)


def _shown(node: NodeOverview) -> ShownNode:
    return ShownNode(
        nodeid=node.id,
        name=node.name,
        standing=node.node.standing,
        eligible=node.node.standing is Standing.USABLE,
        reason=node.node.reason,
        needsnewsecret=node.node.needs_new_secret,
        knowsimages=node.current_images,
        cores=node.cores,
        coresfree=max(0, node.cores - node.cores_used),
        memorymb=node.memory_mb,
        memoryfreemb=max(0, node.memory_mb - node.memory_used_mb),
        jobs=node.jobs,
        images=list(node.images),
        imagecount=node.image_count,
        diskfreemb=node.disk_free_mb,
        disktotalmb=node.disk_total_mb,
        agentversion=node.agent_version,
        nomadversion=node.nomad_version,
        joinedat=node.joined_at,
        lastseenat=node.last_seen_at,
        heldsince=node.held_at,
        nextprobeat=node.probe_at if node.held_at else None,
        unenforced=None if node.unenforced is None else list(node.unenforced),
    )
