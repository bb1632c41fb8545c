-- Mail about batches: docs/developers/mail.md.

-- Who wants mail about which batch. The batch may be unknown: the client asks before it submits the first job.
CREATE TABLE batch_mails (
    user_id      integer     NOT NULL,
    batch_id     uuid        NOT NULL,
    -- NULL: the mail about the end is written. The address is needed no more.
    address      text,
    -- The last call about it.
    asked_at     timestamptz NOT NULL DEFAULT now(),
    -- Whether the client has submitted all jobs that it wanted to.
    complete     boolean     NOT NULL,
    failure_told boolean     NOT NULL DEFAULT false,
    -- Jobs and failures of the batch when the mail about its end was written. 0: it never was.
    told_jobs    bigint      NOT NULL DEFAULT 0,
    told_failed  bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, batch_id)
);
CREATE INDEX batch_mails_open ON batch_mails (user_id, batch_id) WHERE address IS NOT NULL;

-- Mails to send, and mails that were sent.
CREATE TABLE mails (
    -- Also in the mail's Message-ID: a mail that is sent twice is one mail to its reader.
    id         uuid        PRIMARY KEY,
    user_id    integer     NOT NULL,
    batch_id   uuid        NOT NULL,
    address    text        NOT NULL,
    subject    text        NOT NULL,
    body       text        NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    tries      integer     NOT NULL DEFAULT 0,
    -- When to try again: after a failure, or because a dispatcher that tried was never heard of again. NULL: it was
    -- sent or given up.
    due_at     timestamptz DEFAULT now(),
    -- NULL: no server has accepted it.
    sent_at    timestamptz,
    -- Why the last try failed.
    error      text
);
CREATE INDEX mails_due ON mails (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX mails_over ON mails (written_at) WHERE due_at IS NULL;
CREATE INDEX mails_of_user ON mails (user_id, written_at);
