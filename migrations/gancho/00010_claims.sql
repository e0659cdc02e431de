-- Whoever claims a job reads those that have not ended, and the canceled ones that are not
-- let go yet; whoever creates one counts its tenant's.

-- +goose Up

DROP INDEX gancho.jobs_open;
CREATE INDEX jobs_open ON gancho.jobs (left(tenant, 128)) WHERE state IN ('queued', 'running') OR leased IS NOT NULL;
