-- What an attempt's receiver has answered, and where its time went (state.keep_answers), and
-- the tags of events, by which attempts, kept events and dead letters are found.
--
-- A tag is stored as name=value: an index over the array finds the few rows of a number or a
-- hash. What many rows have is found by time, as the statistics of the array tell the planner.

-- +goose Up

ALTER TABLE gancho.attempts ADD COLUMN detail bytea, ADD COLUMN tags text[];
ALTER TABLE gancho.events ADD COLUMN tags text[];
ALTER TABLE gancho.dead_letters ADD COLUMN tags text[];
ALTER TABLE gancho.overflow ADD COLUMN tags text[];

CREATE INDEX attempts_event ON gancho.attempts (event, time, endpoint, entry, number);
CREATE INDEX attempts_tags ON gancho.attempts USING gin (tags) WHERE tags IS NOT NULL;
CREATE INDEX events_tags ON gancho.events USING gin (tags) WHERE tags IS NOT NULL;
CREATE INDEX dead_letters_tags ON gancho.dead_letters USING gin (tags) WHERE tags IS NOT NULL;
