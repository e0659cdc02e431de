// Package state keeps what Gancho has to remember beyond its queue, in the
// schema gancho of a PostgreSQL database: endpoints and their secrets, API
// tokens, dead letters, the log of attempts, the events kept for resends,
// resend jobs, and who changed what.
//
// Deliveries never wait for it: the log and the dead letters are gathered in
// Redis and written here in batches; a database that is away only makes them
// late. Everything that is written from there is written once, however often
// it is tried.
//
// What could be used against a receiver (signing keys, header values, extra
// fields, the endpoint's URL) is encrypted with AES-256-GCM under a key that
// is not in the database, bound to its endpoint; see Keyring.
package state
