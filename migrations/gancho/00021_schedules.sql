-- The rules with schedule: up to when they have run, and which rows they have sent.

-- +goose Up

CREATE TABLE gancho.schedules (
    event    text COLLATE "C" PRIMARY KEY,  -- the rule's
    since    timestamptz NOT NULL,          -- what was due up to then has run, or never will
    due      timestamptz,                   -- the scheduled time of the run that has begun; null: there is none
    part     bigint NOT NULL DEFAULT 0,     -- how many parts of that run are stored
    messages bytea,                         -- the last of them, until redis has it: compressed JSON
    sent     bigint NOT NULL DEFAULT 0,     -- events of its parts
    identities uuid[],                      -- of its rows
    failed   timestamptz,                   -- when the run failed last; null: it has not
    failure  text NOT NULL DEFAULT '',
    -- Of the last run that ended.
    ran      timestamptz,                   -- its scheduled time
    ended    timestamptz,
    took     interval,                      -- its query and its parts, without earlier attempts
    rows     bigint NOT NULL DEFAULT 0,
    events   bigint NOT NULL DEFAULT 0,
    uncomputed bigint NOT NULL DEFAULT 0,   -- rows of which no event could be made
    reason   text NOT NULL DEFAULT ''       -- why, of the first of them
);

-- Rows that have been sent: by the run that has begun, and of rules with once by any.
CREATE TABLE gancho.scheduled_rows (
    event text COLLATE "C" NOT NULL,
    row   uuid NOT NULL,         -- a hash of what it is known by
    due   timestamptz NOT NULL,  -- the scheduled time of a run that had it, the last one or up to a month before
    PRIMARY KEY (event, row)
);
