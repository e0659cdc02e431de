-- A backfill, and a redrive of parked changes, is of one source, and done by the bridge that reads its slot: there
-- is one backfill of each. What chooses its rows may be personal data, and is encrypted.

-- +goose Up

ALTER TABLE gancho.jobs ADD COLUMN source text NOT NULL DEFAULT '';  -- its slot; empty: any
ALTER TABLE gancho.jobs ADD COLUMN sealed bytea;                     -- the filter's where
DROP INDEX gancho.jobs_backfill;
CREATE UNIQUE INDEX jobs_backfill ON gancho.jobs (kind, source) WHERE kind = 'backfill' AND state IN ('queued', 'running', 'paused');
