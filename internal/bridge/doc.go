// Package bridge joins the parts into the running bridge: it reads changes
// (cdc), maps them (mapping), appends the events to their queues and delivers
// them (delivery), and serves health and metrics.
//
// What flows through it is safe at every hand-over: a transaction is confirmed
// to PostgreSQL only when all its events are durable in Redis, and an event
// leaves Redis only when its receiver has taken it. So there is no order in
// which the parts must stop, and a kill at any moment loses nothing.
//
// When Redis restarts, what it had not yet written to disk may be gone; capture
// then rewinds to the confirmed position and appends again before anything
// newer is appended (delivery.Queue says why that order matters).
//
// With a state database (Options.State) the endpoints are those of the file and
// those that are stored, whose changes every process applies within a second.
// What was attempted, what was given up and, if wanted, the events themselves
// move from Redis to the database, each once; resends and redrives come from
// there and go through Redis at least once, under their webhook-ids. A bridge
// waits for that database when it starts, and needs it no more afterwards: while
// it is away, endpoints stay as they are, deliveries go on, and what is to be
// stored waits in Redis.
package bridge
