-- Forgetting somebody raises n: what was read of Redis before is not stored after it (see
-- internal/state, Store.Intake). A bridge of an older version does not look here.

-- +goose Up

CREATE TABLE gancho.forgets (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    n        bigint NOT NULL
);
INSERT INTO gancho.forgets (n) VALUES (0);
