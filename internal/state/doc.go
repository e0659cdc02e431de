// Package state keeps what Gancho stores beyond its queue, in the schema gancho
// of a PostgreSQL database: endpoints and their secrets, API tokens, dead
// letters, the log of attempts, the events kept for resends, jobs, and who
// changed what.
//
// Deliveries never wait for it: the log and the dead letters are gathered in
// Redis and written here in batches; while the database is unreachable they are
// late. What is written from there is stored once, however often it is retried.
//
// Nobody polls: Store.Watch reports what may have changed.
//
// What could be used against a receiver (signing keys, header values, extra
// fields, the endpoint's URL) is encrypted with AES-256-GCM under a key that
// is not in the database, bound to its endpoint; see Keyring.
package state
