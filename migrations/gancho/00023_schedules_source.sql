-- Bridges of several sources may share this database, and each has its own rules: what has run is known by the source, too.
-- The rows that were sent name their schedule by a number: there may be millions.

-- +goose Up

ALTER TABLE gancho.schedules DROP CONSTRAINT schedules_pkey;
ALTER TABLE gancho.schedules ADD COLUMN id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
ALTER TABLE gancho.schedules ADD COLUMN source text COLLATE "C" NOT NULL DEFAULT '';  -- its slot; empty: of before, and taken over
CREATE UNIQUE INDEX schedules_event ON gancho.schedules (event, source);

ALTER TABLE gancho.scheduled_rows ADD COLUMN schedule integer;
UPDATE gancho.scheduled_rows r SET schedule = s.id FROM gancho.schedules s WHERE s.event = r.event;
DELETE FROM gancho.scheduled_rows WHERE schedule IS NULL;
ALTER TABLE gancho.scheduled_rows DROP CONSTRAINT scheduled_rows_pkey;
ALTER TABLE gancho.scheduled_rows DROP COLUMN event;
ALTER TABLE gancho.scheduled_rows ADD PRIMARY KEY (schedule, row);
