-- A canceled redrive keeps its dead letters until what it has sent of them is deleted; the
-- rules' numbers are remembered beside the epoch that they belong to; and dead letters of
-- different events may have the same handle, which an emptied Redis begins anew. A bridge of
-- 00003 or 00004 works on; an older one keeps its dead letters in Redis until it is upgraded.
-- The dead letters come first: whoever locks them and then the jobs does so, too.

-- +goose Up

ALTER TABLE gancho.dead_letters DROP CONSTRAINT dead_letters_endpoint_handle_key;
ALTER TABLE gancho.sources ADD COLUMN numbers json NOT NULL DEFAULT '{}';  -- of the epoch's rules
UPDATE gancho.jobs SET leased = NULL WHERE state = 'canceled';
