"""What node agents ask: join, leave, and the three steps of an attempt."""

from __future__ import annotations

import structlog
from fastapi import APIRouter

from leruli_queue.access.authenticate import Node
from leruli_queue.access.authorise import authorise_machine, authorise_node
from leruli_queue.access.roles import Call
from leruli_queue.api.context import Context, ContextDep
from leruli_queue.api.schemas import (
    AttemptEnd,
    AttemptStart,
    AttemptStartAnswer,
    NodeJoin,
    NodeJoinAnswer,
    NodeLeaveAnswer,
    NomadAccess,
    Nothing,
    OneAttempt,
    WithNodeToken,
    problems,
)
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.attempts import AttemptId, allow_upload, end_attempt, start_attempt
from leruli_queue.jobs.outcomes import Receipt
from leruli_queue.jobs.retries import Retries
from leruli_queue.nodes.join import Machine, join_node, leave_node
from leruli_queue.nodes.pools import image_prefix
from leruli_queue.nomad.gateway import NomadError

log = structlog.get_logger(__name__)

router = APIRouter(tags=["nodes"], responses=problems())

_STALE = problems({409: "Not (any more) this node's to run: drop it."})


@router.post(f"/{Call.NODE_JOIN}")
async def node_join(body: NodeJoin, context: ContextDep) -> NodeJoinAnswer:
    """Make the machine a node of the group that its two secrets belong to."""
    group = await authorise_machine(
        context.pool,
        Call.NODE_JOIN,
        group_token=body.grouptoken,
        compute_secret=body.computesecret,
    )
    machine = Machine(body.name, body.cores, body.memorymb, body.agentversion)
    try:
        admission = await join_node(context.pool, context.nomad, group, machine, body.nodeid)
    except NomadError as error:
        raise _cluster_away(error) from error
    settings = context.settings
    return NodeJoinAnswer(
        nodeid=admission.node_id,
        nodetoken=admission.node_token,
        nomad=NomadAccess(
            servers=settings.nomad_servers,
            region=settings.nomad_region,
            datacenter=settings.nomad_datacenter,
            pool=admission.pool,
            introtoken=admission.introduction_token,
        ),
        imageprefix=image_prefix(group.key_id),
    )


@router.post(f"/{Call.NODE_LEAVE}")
async def node_leave(body: WithNodeToken, context: ContextDep) -> NodeLeaveAnswer:
    """Take the node out of service; answers how many attempts are still on it."""
    node = await _node(Call.NODE_LEAVE, body, context)
    try:
        running = await leave_node(
            context.pool, context.nomad, node, context.settings.drain_deadline_s
        )
    except NomadError as error:
        raise _cluster_away(error) from error
    return NodeLeaveAnswer(running=running)


@router.post(f"/{Call.ATTEMPT_START}", responses=_STALE)
async def attempt_start(body: AttemptStart, context: ContextDep) -> AttemptStartAnswer:
    """Give leave to start an attempt, once."""
    node = await _node(Call.ATTEMPT_START, body, context)
    leave = await start_attempt(context.pool, node, _attempt(body), body.startkey)
    return AttemptStartAnswer(
        bucketid=leave.bucket,
        code=leave.code,
        version=leave.version,
        cores=leave.cores,
        memorymb=leave.memory_mb,
        timelimit=leave.time_limit_s,
    )


@router.post(f"/{Call.ATTEMPT_UPLOAD}", responses=_STALE)
async def attempt_upload(body: OneAttempt, context: ContextDep) -> Nothing:
    """Give leave to upload the output of an attempt."""
    node = await _node(Call.ATTEMPT_UPLOAD, body, context)
    await allow_upload(context.pool, node, _attempt(body))
    return Nothing()


@router.post(f"/{Call.ATTEMPT_END}", responses=_STALE)
async def attempt_end(body: AttemptEnd, context: ContextDep) -> Nothing:
    """Take the receipt of an attempt."""
    receipt = Receipt(
        outcome=body.outcome,
        exit_code=body.exitcode,
        message=body.message,
        wall_s=body.wallseconds,
        cpu_s=body.cpuseconds,
        peak_memory_mb=body.peakmemorymb,
        uploaded_bytes=body.uploadedbytes,
        uploaded_files=body.uploadedfiles,
    )
    node = await _node(Call.ATTEMPT_END, body, context)
    retries = Retries.of(context.settings)
    await end_attempt(context.pool, node, _attempt(body), receipt, retries)
    return Nothing()


async def _node(call: Call, body: WithNodeToken, context: Context) -> Node:
    return await authorise_node(context.pool, call, body.nodetoken)


def _attempt(body: OneAttempt) -> AttemptId:
    return AttemptId(body.jobid, body.attempt)


def _cluster_away(error: NomadError) -> UserReportableError:
    log.error("Nomad failed a call", why=str(error))
    return UserReportableError(
        "The cluster manager (Nomad) does not answer the service. Try again in a moment.",
        status=503,
        retry_after=5,
    )
