-- A look at the backlog costs the same, however many different sizes a user's waiting jobs have:
-- docs/scheduling.md.

-- A user's waiting jobs in their order, whatever they ask for.
CREATE INDEX jobs_in_order ON jobs (user_id, priority DESC, id) WHERE state = 'received';

-- The size at which the last look at a user ended who has more than one look goes through. No foreign
-- key: to make it would lock users over jobs, which copies that submit would deadlock with.
CREATE TABLE size_looks (
    user_id   integer PRIMARY KEY,
    cores     integer NOT NULL,
    memory_mb integer NOT NULL
);
