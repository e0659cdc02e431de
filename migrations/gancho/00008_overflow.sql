-- Queued events of backlogs that are over their quota, which Redis has no more: see
-- docs/adr/0009. An endpoint's head says up to which position they are here, and whose
-- claim may change that. And what a job waits for is shown in its record.

-- +goose Up

CREATE TABLE gancho.overflow_heads (
    endpoint text COLLATE "C" PRIMARY KEY,
    claim    text COLLATE "C" NOT NULL,           -- the owner's fencing token
    position bytea NOT NULL DEFAULT '',           -- the end: what is queued up to it is here, the rest in Redis
    events   bigint NOT NULL DEFAULT 0,           -- how many, and their size
    bytes    bigint NOT NULL DEFAULT 0
);

CREATE TABLE gancho.overflow (
    endpoint  text COLLATE "C" NOT NULL,
    position  bytea NOT NULL,                     -- the id of the entry, in 16 bytes
    source    text COLLATE "C" NOT NULL,          -- what its webhook-id begins with
    event     text COLLATE "C" NOT NULL,
    tenant    text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    committed timestamptz NOT NULL,
    version   text COLLATE "C" NOT NULL,
    data      bytea NOT NULL,
    previous  bytea,
    unchanged bytea,
    size      integer NOT NULL,
    PRIMARY KEY (endpoint, position)
);
CREATE INDEX overflow_key ON gancho.overflow (left(key, 128));

ALTER TABLE gancho.jobs ADD COLUMN waits text NOT NULL DEFAULT '';
