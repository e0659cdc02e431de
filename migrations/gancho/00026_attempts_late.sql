-- What was attempted more than an hour after its commit, such as the backlog of a paused endpoint: so that the last event of an old
-- day is found without reading all days after it. Almost no attempt is in it, and so it costs the log next to nothing.

-- +goose Up

CREATE INDEX attempts_late ON gancho.attempts (endpoint, committed) WHERE "time" - committed > interval '1 hour';
