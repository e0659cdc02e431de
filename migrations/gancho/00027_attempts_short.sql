-- The indexes of the log by endpoint and by event end with the time, that of events with the endpoint, by which it is filtered: pages
-- are in the order of time, and the attempts of one microsecond, few but where a list is superseded, are sorted when they are read. The entry and the number behind
-- it were a fifth of all of the log's indexes, and a seventh of what it writes to the WAL.
--
-- Partitions that are there keep the longer indexes, as nobody wants to wait until those of a month are made anew: they are detached
-- while the parent's are replaced, and so are not dropped with them. Attaching reads each once. ON ONLY: the new
-- indexes are of partitions that are created from now on.

-- +goose Up

-- +goose StatementBegin
DO $$
DECLARE
	days text[];
	bounds text[];
BEGIN
	LOCK TABLE gancho.attempts;
	SELECT array_agg(c.oid::regclass::text ORDER BY c.relname), array_agg(pg_get_expr(c.relpartbound, c.oid) ORDER BY c.relname) INTO days, bounds
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'gancho.attempts'::regclass;
	FOR n IN 1 .. coalesce(cardinality(days), 0) LOOP
		EXECUTE 'ALTER TABLE gancho.attempts DETACH PARTITION ' || days[n];
	END LOOP;
	DROP INDEX gancho.attempts_endpoint, gancho.attempts_event;
	FOR n IN 1 .. coalesce(cardinality(days), 0) LOOP
		EXECUTE 'ALTER TABLE gancho.attempts ATTACH PARTITION ' || days[n] || ' ' || bounds[n];
	END LOOP;
END $$;
-- +goose StatementEnd

CREATE INDEX attempts_endpoint ON ONLY gancho.attempts (endpoint, "time");
CREATE INDEX attempts_event ON ONLY gancho.attempts (event, "time", endpoint);
