-- What receivers said to the last test of each endpoint that was delivered.

-- +goose Up

CREATE TABLE gancho.endpoint_tests (
    endpoint text COLLATE "C" PRIMARY KEY,
    tested   timestamptz NOT NULL,
    settings text NOT NULL,  -- a hash of the endpoint's settings, without secrets, as they were then
    wrong    json NOT NULL   -- what they said to wrong requests
);
