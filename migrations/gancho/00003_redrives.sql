-- A redrive claims dead letters before it sends them, so that no two send the same
-- one; an endpoint has one dead letter of an event, its newest. And what identifies
-- the source is remembered here, too, should Redis lose it.

-- +goose Up

-- Before the first statement that would take a weaker lock: a bridge that runs must not
-- write a duplicate in between, nor wait for a lock that this waits for.
LOCK TABLE gancho.dead_letters IN ACCESS EXCLUSIVE MODE;
DELETE FROM gancho.dead_letters d WHERE EXISTS (
    SELECT 1 FROM gancho.dead_letters newer WHERE newer.endpoint = d.endpoint AND newer.webhook_id = d.webhook_id AND newer.id > d.id
);
CREATE UNIQUE INDEX dead_letters_once ON gancho.dead_letters (endpoint, webhook_id);
ALTER TABLE gancho.dead_letters ADD COLUMN job bigint;  -- the redrive that sends it, as long as that is not over

CREATE TABLE gancho.sources (
    slot     text COLLATE "C" PRIMARY KEY,
    system   text NOT NULL,
    database text NOT NULL,
    timeline integer NOT NULL,
    epoch    integer NOT NULL
);
