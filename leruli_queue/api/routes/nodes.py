"""What node agents ask: join, report, leave, and the three steps of an attempt."""

from __future__ import annotations

from fastapi import APIRouter

from leruli_queue.access.authenticate import Node
from leruli_queue.access.authorise import authorise_machine, authorise_node
from leruli_queue.access.roles import Call
from leruli_queue.api.context import Context, ContextDep
from leruli_queue.api.errors import cluster_explained
from leruli_queue.api.schemas import (
    AttemptEnd,
    AttemptStart,
    AttemptStartAnswer,
    HeldAttempt,
    NodeCertificate,
    NodeCertificateAnswer,
    NodeJoin,
    NodeJoinAnswer,
    NodeLeaveAnswer,
    NodeReport,
    NodeReportAnswer,
    NomadAccess,
    Nothing,
    OneAttempt,
    WithNodeToken,
    problems,
)
from leruli_queue.jobs.attempts import AttemptId, allow_upload, end_attempt, start_attempt
from leruli_queue.jobs.outcomes import Receipt
from leruli_queue.jobs.retries import Retries
from leruli_queue.nodes.join import Gate, Machine, join_node, leave_node, renew_certificate
from leruli_queue.nodes.pools import image_prefix
from leruli_queue.nodes.report import Report, take_report
from leruli_queue.store.queries import queries

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
    machine = Machine(body.name, body.cores, body.memorymb, body.agentversion, body.csr)
    gate = context.gate(await queries.cluster_of_group(context.pool, group_id=group.id))
    with cluster_explained():
        admission = await join_node(context.pool, gate, group, machine, body.nodeid)
    cluster = context.clusters[gate.name]
    return NodeJoinAnswer(
        nodeid=admission.node_id,
        nodetoken=admission.node_token,
        nomad=NomadAccess(
            servers=list(cluster.servers),
            region=cluster.region,
            datacenter=cluster.datacenter,
            pool=admission.pool,
            introtoken=admission.introduction_token,
        ),
        tls=_certificate(gate, admission.certificate),
        imageprefix=image_prefix(group.key_id),
        reportseconds=context.settings.node_report_s,
    )


@router.post(f"/{Call.NODE_LEAVE}")
async def node_leave(body: WithNodeToken, context: ContextDep) -> NodeLeaveAnswer:
    """Take the node out of service; answers how many attempts are still on it."""
    node = await _node(Call.NODE_LEAVE, body, context)
    gate = await _gate_of(node, context)
    with cluster_explained():
        running = await leave_node(
            context.pool, gate.admission, node, context.settings.drain_deadline_s
        )
    return NodeLeaveAnswer(running=running)


@router.post(f"/{Call.NODE_CERTIFICATE}")
async def node_certificate(body: NodeCertificate, context: ContextDep) -> NodeCertificateAnswer:
    """Sign the node's next certificate, unless its compute secret was rotated since it joined."""
    node = await _node(Call.NODE_CERTIFICATE, body, context)
    gate = await _gate_of(node, context)
    return _certificate(gate, await renew_certificate(context.pool, gate.signer, node, body.csr))


@router.post(f"/{Call.NODE_REPORT}")
async def node_report(body: NodeReport, context: ContextDep) -> NodeReportAnswer:
    """Take what a node shows of itself; answer how it stands and what it has to end."""
    node = await _node(Call.NODE_REPORT, body, context)
    reply = await take_report(
        context.pool,
        node.id,
        Report(
            agent_version=body.agentversion,
            nomad_version=body.nomadversion,
            images=body.images,
            disk_free_mb=body.diskfreemb,
            disk_total_mb=body.disktotalmb,
            holds=[(held.jobid, held.attempt) for held in body.attempts],
        ),
    )
    return NodeReportAnswer(
        standing=reply.node.standing,
        reason=reply.node.reason,
        drop=[HeldAttempt(jobid=job_id, attempt=number) for job_id, number in reply.drop],
        reportseconds=context.settings.node_report_s,
    )


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
        image=leave.image,
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


async def _gate_of(node: Node, context: Context) -> Gate:
    return context.gate(await queries.cluster_of_node(context.pool, node_id=node.id))


def _certificate(gate: Gate, certificate: str) -> NodeCertificateAnswer:
    return NodeCertificateAnswer(
        ca=gate.signer.authority.pem,
        certificate=certificate,
        validseconds=gate.signer.lifetime.total_seconds(),
    )
