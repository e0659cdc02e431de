-- What became of events that had overflowed from Redis, counted in the transactions that delete them, so
-- that gancho prove can add it to what Redis has counted.

-- +goose Up

CREATE TABLE gancho.overflow_tallies (
    endpoint   text COLLATE "C" NOT NULL,
    "interval" bigint NOT NULL,                   -- of the commits, counted from 1970 (queue.TallyInterval)
    epoch      integer NOT NULL,
    rule       integer NOT NULL,                  -- its number in the epoch
    fate       text COLLATE "C" NOT NULL,
    n          bigint NOT NULL,
    PRIMARY KEY (endpoint, "interval", epoch, rule, fate)
);
