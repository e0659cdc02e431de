-- Parked changes are redriven by a job, which no endpoint has: it counts those for which
-- their rule no longer fires, and those that are still parked, beside what it has sent.

-- +goose Up

ALTER TABLE gancho.jobs DROP CONSTRAINT jobs_kind_check, ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('resend', 'redrive', 'redrive_parked'));
ALTER TABLE gancho.jobs ADD COLUMN silent bigint NOT NULL DEFAULT 0, ADD COLUMN kept bigint NOT NULL DEFAULT 0;
