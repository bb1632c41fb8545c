"""What node agents ask: join, report, leave, and the three steps of an attempt."""

from __future__ import annotations

from fastapi import APIRouter

from leruli_queue.access.authorise import authorise_machine, authorise_node
from leruli_queue.access.roles import Call
from leruli_queue.api.context import ContextDep
from leruli_queue.api.schemas.agents import (
    AttemptEnd,
    AttemptStart,
    AttemptStartAnswer,
    AttemptUpload,
    AttemptUploadAnswer,
    HeldAttempt,
    NodeCertificate,
    NodeCertificateAnswer,
    NodeJoin,
    NodeJoinAnswer,
    NodeLeaveAnswer,
    NodeReport,
    NodeReportAnswer,
    NomadAccess,
    OneAttempt,
    WithNodeToken,
)
from leruli_queue.api.schemas.common import Nothing, problems
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.attempts import AttemptId, allow_upload, end_attempt, start_attempt
from leruli_queue.jobs.outcomes import Receipt
from leruli_queue.jobs.retries import Retries
from leruli_queue.nodes.image_tokens import image_tokens_of_node
from leruli_queue.nodes.join import Certificate, Machine, join_node, leave_node, renew_certificate
from leruli_queue.nodes.report import Report, take_report
from leruli_queue.settings import Settings

router = APIRouter(tags=["nodes"], responses=problems())

_STALE = problems({409: "Not (any more) this node's to run: drop it."})


@router.post(f"/{Call.NODE_JOIN}")
async def node_join(body: NodeJoin, context: ContextDep) -> NodeJoinAnswer:
    """Make the machine a node of the group that its two secrets belong to."""
    machine = Machine(body.name, body.cores, body.memorymb, body.agentversion, body.csr)
    _refuse_giants(machine, context.settings)
    async with context.reading() as connection:
        group = await authorise_machine(
            connection,
            Call.NODE_JOIN,
            group_token=body.grouptoken,
            compute_secret=body.computesecret,
        )
    admission = await join_node(
        context.reading,
        context.gate,
        context.join_limits,
        group,
        body.grouptoken,
        machine,
        body.nodeid,
    )
    cluster = context.clusters[admission.cluster]
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
        tls=_certificate(admission.certificate),
        imageprefix=admission.image_prefix,
        imagetokens=admission.image_tokens,
        reportseconds=context.settings.node_report_s,
    )


@router.post(f"/{Call.NODE_LEAVE}")
async def node_leave(body: WithNodeToken, context: ContextDep) -> NodeLeaveAnswer:
    """Take the node out of service; answers how many attempts are still on it."""
    async with context.reading() as connection:
        node = await authorise_node(connection, Call.NODE_LEAVE, body.nodetoken)
    running = await leave_node(
        context.reading, context.gate, node, context.settings.drain_deadline_s
    )
    return NodeLeaveAnswer(running=running)


@router.post(f"/{Call.NODE_CERTIFICATE}")
async def node_certificate(body: NodeCertificate, context: ContextDep) -> NodeCertificateAnswer:
    """Sign the node's next certificate, unless its compute secret was rotated since it joined."""
    async with context.reading() as connection:
        node = await authorise_node(connection, Call.NODE_CERTIFICATE, body.nodetoken)
        return _certificate(await renew_certificate(connection, context.gate, node, body.csr))


@router.post(f"/{Call.NODE_REPORT}")
async def node_report(body: NodeReport, context: ContextDep) -> NodeReportAnswer:
    """Take what a node shows of itself; answer how it stands and what it has to end."""
    report = Report(
        agent_version=body.agentversion,
        nomad_version=body.nomadversion,
        images=body.images,
        disk_free_mb=body.diskfreemb,
        disk_total_mb=body.disktotalmb,
        holds=[(held.jobid, held.attempt) for held in body.attempts],
        trouble=body.trouble or None,
        unenforced=body.unenforced,
    )
    async with context.reading() as connection:
        node = await authorise_node(connection, Call.NODE_REPORT, body.nodetoken)
        reply = await take_report(connection, node.id, report)
        tokens = await image_tokens_of_node(connection, node, body.imagekeyid)
    return NodeReportAnswer(
        standing=reply.node.standing,
        reason=reply.node.reason,
        drop=[HeldAttempt(jobid=job_id, attempt=number) for job_id, number in reply.drop],
        cancel=[HeldAttempt(jobid=job_id, attempt=number) for job_id, number in reply.cancel],
        imagetokens=tokens,
        reportseconds=context.settings.node_report_s,
    )


@router.post(f"/{Call.ATTEMPT_START}", responses=_STALE)
async def attempt_start(body: AttemptStart, context: ContextDep) -> AttemptStartAnswer:
    """Give leave to start an attempt, once."""
    async with context.reading() as connection:
        node = await authorise_node(connection, Call.ATTEMPT_START, body.nodetoken)
        leave = await start_attempt(connection, node, _attempt(body), body.startkey)
    return AttemptStartAnswer(
        bucketid=leave.bucket,
        code=leave.code,
        version=leave.version,
        cores=leave.cores,
        memorymb=leave.memory_mb,
        timelimit=leave.time_limit_s,
        diskmb=leave.disk_mb or context.settings.default_disk_mb,
        unmarkedoutput=leave.unmarked_output,
        image=leave.image,
    )


@router.post(f"/{Call.ATTEMPT_UPLOAD}", responses=_STALE)
async def attempt_upload(body: AttemptUpload, context: ContextDep) -> AttemptUploadAnswer:
    """Give leave to upload the output of an attempt, or renew it."""
    async with context.reading() as connection:
        node = await authorise_node(connection, Call.ATTEMPT_UPLOAD, body.nodetoken)
        await allow_upload(connection, node, _attempt(body), marks=body.marks)
    return AttemptUploadAnswer(silenceseconds=context.settings.node_silence_s)


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
    retries = Retries.of(context.settings)
    async with context.reading() as connection:
        node = await authorise_node(connection, Call.ATTEMPT_END, body.nodetoken)
        await end_attempt(connection, node, _attempt(body), receipt, retries)
    return Nothing()


def _refuse_giants(machine: Machine, settings: Settings) -> None:
    for what, claimed, most, setting in (
        ("cores", machine.cores, settings.node_max_cores, "LERULI_QUEUE_NODE_MAX_CORES"),
        ("MB", machine.memory_mb, settings.node_max_memory_mb, "LERULI_QUEUE_NODE_MAX_MEMORY_MB"),
    ):
        if claimed > most:
            raise UserReportableError(
                f"The machine claims {claimed} {what}, and this service takes machines of at most "
                f"{most}. Correct LERULI_NODE_CORES or LERULI_NODE_MEMORY_MB on the machine; for a "
                f"larger one, whoever runs the service raises {setting}.",
                status=422,
            )


def _attempt(body: OneAttempt) -> AttemptId:
    return AttemptId(body.jobid, body.attempt)


def _certificate(certificate: Certificate) -> NodeCertificateAnswer:
    return NodeCertificateAnswer(
        ca=certificate.signer.authority.pem,
        certificate=certificate.text,
        validseconds=certificate.signer.lifetime.total_seconds(),
    )
