-- What was given more than an hour after its commit, such as the backlog of a paused endpoint: so that the last event of an old day
-- is found without reading all days after it. Almost no attempt is in it, and so it costs the log next to nothing; after an outage, whose
-- events are all late, it has one row for each of them and none for their retries. The conditions are those of the query, and the columns
-- the others that it asks for: such a day is read from the index alone.

-- +goose Up

CREATE INDEX attempts_late ON gancho.attempts (endpoint, committed) INCLUDE (webhook_id, tenant, "time")
	WHERE "time" - committed > interval '1 hour' AND outcome IN ('delivered', 'dead') AND NOT replay
		AND length(split_part(entry, '-', 1)) > 15 AND webhook_id NOT LIKE 'gancho-%';
