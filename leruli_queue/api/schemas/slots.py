"""Body and answer of slot-next, by which a node asks what its slots run next."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, StrictBool

from leruli_queue.api.schemas.agents import (
    AttemptStartAnswer,
    HeldAttempt,
    Receipted,
    WithNodeToken,
)
from leruli_queue.api.schemas.common import A_NUMBER, Body, Count, NoSecret


class ReceiptInSlot(Body, Receipted):
    """The receipt of one attempt."""

    jobid: UUID
    attempt: Count


class SlotAsks(HeldAttempt):
    """A slot, named by its first attempt, that can run further attempts."""

    key: Annotated[str, NoSecret] = Field(
        pattern=r"^[A-Za-z0-9_-]{8,100}$",
        description="Random, one for each question. The same key is answered the same.",
    )
    most: Annotated[int, Field(ge=1, le=16), A_NUMBER] = 1
    ahead: Annotated[int, Field(ge=0, le=16), A_NUMBER] = Field(
        0, description="How many more than `most` it takes while many jobs wait."
    )
    container: UUID | None = Field(
        None, description="The job whose shared container the slot keeps for another one."
    )


class SlotNext(WithNodeToken):
    """Receipts of a node's attempts and questions of its slots, gathered over milliseconds."""

    receipts: list[ReceiptInSlot] = Field(default=[], max_length=500)
    running: list[HeldAttempt] = Field(
        default=[], max_length=500, description="Attempts of slots whose command runs."
    )
    returned: list[HeldAttempt] = Field(
        default=[],
        max_length=500,
        description="Attempts that slots were granted ahead, and do not begin.",
    )
    slots: list[SlotAsks] = Field(default=[], max_length=200)


class ReceiptAnswer(BaseModel):
    """The answer to a receipt."""

    jobid: UUID
    attempt: int
    stale: str | None = Field(
        description="Why the receipt is refused; drop the attempt. Null: it is taken."
    )


class NextAttempt(AttemptStartAnswer):
    """A further attempt of a slot: started, and leased to upload."""

    jobid: UUID
    attempt: int
    user: str = Field(description="Differs between users. A container serves one of them.")
    sharecontainer: StrictBool


class SlotAnswer(BaseModel):
    """What a slot runs next."""

    jobid: UUID
    attempt: int
    next: list[NextAttempt] = Field(description="Empty: the slot is over.")


class SlotNextAnswer(BaseModel):
    """To each receipt and each slot, in the order of the question."""

    receipts: list[ReceiptAnswer]
    slots: list[SlotAnswer]
    silenceseconds: float = Field(description="As of attempt-upload, from now on.")
