"""Calls of node agents: join, report, leave, and the three steps of an attempt."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter

from leruli_queue.access.authorise import authorise_machine, authorise_node
from leruli_queue.access.roles import Call
from leruli_queue.api.context import ContextDep
from leruli_queue.api.held_answer import HeldAnswer, Said
from leruli_queue.api.schemas.agents import (
    AttemptEnd,
    AttemptStart,
    AttemptStartAnswer,
    AttemptUpload,
    AttemptUploadAnswer,
    NodeCertificate,
    NodeCertificateAnswer,
    NodeJoin,
    NodeJoinAnswer,
    NodeLeaveAnswer,
    NodeReport,
    NodeReportAnswer,
    NomadAccess,
    OneAttempt,
    Receipted,
    WithNodeToken,
)
from leruli_queue.api.schemas.common import Nothing, problems
from leruli_queue.api.schemas.slots import (
    NextAttempt,
    ReceiptAnswer,
    SlotAnswer,
    SlotNext,
    SlotNextAnswer,
)
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.asking_slots import SlotGrant, SlotRequest
from leruli_queue.jobs.attempts import AttemptId, StartGrant, allow_upload, start_attempt
from leruli_queue.jobs.outcomes import Receipt
from leruli_queue.jobs.receipts import end_attempt
from leruli_queue.jobs.retries import Retries
from leruli_queue.jobs.slots import Turn, take_turn
from leruli_queue.nodes.image_tokens import image_tokens_of_node
from leruli_queue.nodes.join import Certificate, Machine, join_node, leave_node, renew_certificate
from leruli_queue.nodes.report import Report, take_report
from leruli_queue.settings import Settings

router = APIRouter(tags=["nodes"], responses=problems())

_STALE = problems({409: "The node may not run this attempt (any more): drop it."})


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
    """Take the node out of service. Answers the number of attempts that are still on it."""
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


@router.post(f"/{Call.NODE_REPORT}", response_model=NodeReportAnswer)
async def node_report(body: NodeReport, context: ContextDep) -> NodeReportAnswer | HeldAnswer:
    """Take a node's report. Answers its standing and the attempts that it must end.

    With `known`, the answer waits until there is something else to say.
    """
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
    with ExitStack() as held:
        async with context.reading() as connection:
            node = await authorise_node(connection, Call.NODE_REPORT, body.nodetoken)
            # Before anything is read: what changes from now on wakes the waiting report.
            waiter = held.enter_context(context.held_reports.one(node.id))
            await take_report(connection, node.id, report)
            tokens = await image_tokens_of_node(connection, node, body.imagekeyid)
            waits = body.known is not None
            said = Said(node.id, report.holds, tokens, context.settings.node_report_s, waits)
            answer = await said.answer(connection)
        if answer.said != body.known:
            return answer
        # Its waiting is ended by the answer that is returned.
        return HeldAnswer(context, said, answer, waiter, held.pop_all())


@router.post(f"/{Call.ATTEMPT_START}", responses=_STALE)
async def attempt_start(body: AttemptStart, context: ContextDep) -> AttemptStartAnswer:
    """Grant the start of an attempt, once."""
    async with context.reading() as connection:
        node = await authorise_node(connection, Call.ATTEMPT_START, body.nodetoken)
        grant = await start_attempt(
            connection, node, _attempt(body), body.startkey, lease=body.marks
        )
    return AttemptStartAnswer(
        **_granted(grant, context.settings),
        goeson=context.settings.slot_max_s > 0,
        silenceseconds=context.settings.node_silence_s if body.marks else None,
    )


@router.post(f"/{Call.ATTEMPT_UPLOAD}", responses=_STALE)
async def attempt_upload(body: AttemptUpload, context: ContextDep) -> AttemptUploadAnswer:
    """Give the upload lease of an attempt, or renew it."""
    async with context.reading() as connection:
        node = await authorise_node(connection, Call.ATTEMPT_UPLOAD, body.nodetoken)
        await allow_upload(connection, node, _attempt(body), marks=body.marks)
    return AttemptUploadAnswer(silenceseconds=context.settings.node_silence_s)


@router.post(f"/{Call.ATTEMPT_END}", responses=_STALE)
async def attempt_end(body: AttemptEnd, context: ContextDep) -> Nothing:
    """Take the receipt of an attempt."""
    retries = Retries.of(context.settings)
    async with context.reading() as connection:
        node = await authorise_node(connection, Call.ATTEMPT_END, body.nodetoken)
        await end_attempt(connection, node, _attempt(body), _receipt(body), retries)
    return Nothing()


@router.post(f"/{Call.SLOT_NEXT}")
async def slot_next(body: SlotNext, context: ContextDep) -> SlotNextAnswer:
    """Take the receipts of a node's attempts, and grant the next ones of its slots."""
    async with context.reading() as connection:
        node = await authorise_node(connection, Call.SLOT_NEXT, body.nodetoken)
        turn = Turn(
            receipts=[(AttemptId(r.jobid, r.attempt), _receipt(r)) for r in body.receipts],
            running=[AttemptId(held.jobid, held.attempt) for held in body.running],
            returned=[AttemptId(held.jobid, held.attempt) for held in body.returned],
            slots=[
                SlotRequest(
                    AttemptId(asked.jobid, asked.attempt),
                    asked.key,
                    asked.most,
                    asked.ahead,
                    asked.container,
                )
                for asked in body.slots
            ],
        )
        taken = await take_turn(connection, node, turn, context.settings)
    return SlotNextAnswer(
        receipts=[
            ReceiptAnswer(jobid=attempt.job_id, attempt=attempt.number, stale=stale and str(stale))
            for attempt, stale in taken.receipts.items()
        ],
        slots=[
            SlotAnswer(
                jobid=first.job_id,
                attempt=first.number,
                next=[_next_attempt(granted, context.settings) for granted in grants],
            )
            for first, grants in taken.slots.items()
        ],
        silenceseconds=context.settings.node_silence_s,
    )


def _next_attempt(granted: SlotGrant, settings: Settings) -> NextAttempt:
    return NextAttempt(
        jobid=granted.attempt.job_id,
        attempt=granted.attempt.number,
        user=str(granted.user_id),
        sharecontainer=granted.share_container,
        goeson=True,
        silenceseconds=settings.node_silence_s,
        **_granted(granted.grant, settings),
    )


def _granted(grant: StartGrant, settings: Settings) -> dict[str, Any]:
    return {
        "bucketid": grant.bucket,
        "code": grant.code,
        "version": grant.version,
        "cores": grant.cores,
        "memorymb": grant.memory_mb,
        "timelimit": grant.time_limit_s,
        "diskmb": grant.disk_mb or settings.default_disk_mb,
        "unmarkedoutput": grant.unmarked_output,
        "image": grant.image,
        "batch": grant.batch,
    }


def _receipt(body: Receipted) -> Receipt:
    return Receipt(
        outcome=body.outcome,
        exit_code=body.exitcode,
        message=body.message,
        wall_s=body.wallseconds,
        cpu_s=body.cpuseconds,
        peak_memory_mb=body.peakmemorymb,
        uploaded_bytes=body.uploadedbytes,
        uploaded_files=body.uploadedfiles,
        peak_no_cache_mb=body.peaknocachemb,
        disk_mb=body.diskmb,
        image_s=body.imageseconds,
        input_s=body.inputseconds,
        output_s=body.outputseconds,
    )


def _refuse_giants(machine: Machine, settings: Settings) -> None:
    for what, claimed, most, setting in (
        ("cores", machine.cores, settings.node_max_cores, "LERULI_QUEUE_NODE_MAX_CORES"),
        ("MB", machine.memory_mb, settings.node_max_memory_mb, "LERULI_QUEUE_NODE_MAX_MEMORY_MB"),
    ):
        if claimed > most:
            raise UserReportableError(
                f"The machine claims {claimed} {what}, and this service takes machines of at most "
                f"{most}. Correct LERULI_NODE_CORES or LERULI_NODE_MEMORY_MB on the machine. If it "
                f"really is that large, the operator of the service has to raise {setting}.",
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
