-- Whoever watches the state listens on one channel, gancho. The payload says
-- what may have changed: revision, jobs or drops. Triggers notify, so that every
-- writer does, also one of an older version. A bridge of an older version, which
-- listens on gancho_endpoints, reads the revision each second in any case.

-- +goose Up

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION gancho.bump() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE gancho.revision SET n = n + 1;
    PERFORM pg_catalog.pg_notify('gancho', 'revision');
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION gancho.notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_notify('gancho', TG_TABLE_NAME);
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- A job that waits for a worker: it is new, or its worker has given it back.
CREATE TRIGGER notify AFTER INSERT OR UPDATE OF state ON gancho.jobs
    FOR EACH ROW WHEN (NEW.state = 'queued') EXECUTE FUNCTION gancho.notify();
CREATE TRIGGER notify AFTER INSERT ON gancho.drops
    FOR EACH STATEMENT EXECUTE FUNCTION gancho.notify();
