// Package bridge joins the parts into the running bridge: it reads changes
// (cdc), maps them (mapping), appends the events to their queues and delivers
// them (delivery), and serves health and metrics.
//
// What flows through it is safe at every hand-over: a transaction is confirmed
// to PostgreSQL only when all its events are durable in Redis, and an event
// leaves Redis only when its receiver has taken it. So there is no order in
// which the parts must stop, and a kill at any moment loses nothing.
//
// When Redis restarts, what it had not yet written to disk may be lost; capture
// then rewinds to the confirmed position and appends again before anything
// newer is appended (package queue says why that order matters).
//
// With a state database (Options.State) the endpoints are those of the file and
// those that are stored, whose changes every process applies within a second.
// Attempts, dead letters and, if wanted, the events themselves
// move from Redis to the database, each once; resends and redrives come from
// there and go through Redis at least once, under their webhook-ids. A bridge
// waits for that database when it starts, and needs it no more afterwards: while
// it is unreachable, endpoints stay as they are, deliveries continue, and what is
// to be stored waits in Redis.
package bridge
