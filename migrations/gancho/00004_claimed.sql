-- A redrive claims dead letters behind all that it has claimed before, so that its
-- position tells what it has sent. In a transaction of its own: one that locked the dead
-- letters and then the jobs would wait for a bridge that does so the other way round.

-- +goose Up

ALTER TABLE gancho.jobs ADD COLUMN claimed bigint NOT NULL DEFAULT 0;  -- the last dead letter that a redrive has claimed
