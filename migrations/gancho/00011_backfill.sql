-- A backfill is a job that sends the rows which are there already. It can be paused, and there is
-- one at a time: its rows go through the stream, behind each other.

-- +goose Up

ALTER TABLE gancho.jobs DROP CONSTRAINT jobs_kind_check, ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('resend', 'redrive', 'redrive_parked', 'backfill'));
ALTER TABLE gancho.jobs DROP CONSTRAINT jobs_state_check, ADD CONSTRAINT jobs_state_check CHECK (state IN ('queued', 'running', 'paused', 'done', 'canceled', 'failed'));
ALTER TABLE gancho.jobs ADD COLUMN estimated boolean NOT NULL DEFAULT false;  -- its total is the server's estimate
CREATE UNIQUE INDEX jobs_backfill ON gancho.jobs (kind) WHERE kind = 'backfill' AND state IN ('queued', 'running', 'paused');
