-- A canceled redrive keeps its dead letters until what it has sent of them is deleted; the
-- rules' numbers are remembered beside the epoch that they belong to; and dead letters of
-- different events may have the same handle, which an emptied Redis begins anew. None of it
-- hinders a bridge of an older version that runs meanwhile.

-- +goose Up

UPDATE gancho.jobs SET leased = NULL WHERE state = 'canceled';
CREATE INDEX jobs_canceled ON gancho.jobs (id) WHERE state = 'canceled' AND leased IS NOT NULL;
ALTER TABLE gancho.sources ADD COLUMN numbers json NOT NULL DEFAULT '{}';  -- of the epoch's rules
ALTER TABLE gancho.dead_letters DROP CONSTRAINT dead_letters_endpoint_handle_key;
