-- The parts of a job's filter. A worker leaves a job alone that has one which it does not know, for a worker of a newer
-- version: it would ignore it, and send more than was chosen. Jobs of before have none noted, and parts that all know.

-- +goose Up

ALTER TABLE gancho.jobs ADD COLUMN needs text[] NOT NULL DEFAULT '{}';
