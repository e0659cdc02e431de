-- The change that an event was made of (state.keep_changes), with which kept events run through other rules: compressed
-- and encrypted with state.key.

-- +goose Up

ALTER TABLE gancho.events ADD COLUMN change bytea;
ALTER TABLE gancho.overflow ADD COLUMN change bytea;
