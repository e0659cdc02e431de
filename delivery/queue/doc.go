// Package queue keeps events between capture and delivery in Redis: one stream
// per endpoint, whose owner reads it and acknowledges what was delivered.
//
// # Guarantees
//
// The ids of an endpoint's stream are the events' positions in the WAL (ID).
// Redis refuses an id at or below the stream's last one, so appending a
// transaction again is harmless, and appending beyond a gap is fatal: what is
// in the gap could never be appended. Three rules follow. A batch is appended
// to a stream as a whole or not at all. The next batch waits until it has been
// appended to all of its streams. And nothing is appended to a server that may
// have lost the end of what was appended, which is known by its changed identity
// (ErrRestarted), until the capture has been rewound to the confirmed position. The
// identity is looked at before the first append in a second; a stream that this process
// has filled is not created again, so that FLUSHALL, DEL and eviction leave no gap, either
// (LostError).
//
// A position is confirmed to the source only when every event up to it is on
// Redis's disk, and with the replicas that may be promoted (RunDurable); not while
// the server is set to lose events (Unconfirmed); and never before an EXEC, without which
// Redis may drop at its next start what it has appended behind a torn transaction. The
// queue belongs to one source (Claim): another source's positions would not rise. Those of a server that was promoted
// do, if it has all that was read.
//
// Nothing is ever trimmed, but what was moved: the oldest events of a backlog that is over its
// quota move to the Overflow, the state database, and are read from there first. docs/adr/0009
// has the protocol. A full Redis refuses batches (ErrFull), which holds
// the capture up, and still lets deliveries make room and states change. What a job
// sends again is appended once, whatever answers are lost (ReplayPart).
//
// # Servers
//
// Redis may be one server, one that Sentinel names, or a Cluster. A promoted
// replica is a server that may have lost the end; so is, of a Cluster, any
// master that is not one of those that were accepted. In a Cluster a batch is
// one transaction for each slot, and is repeated until all have succeeded; an
// unreachable master holds the capture up until it is reachable or replaced, and
// deliveries from the others go on.
//
// # Ownership
//
// An endpoint's owner is the process that has its lease. It works through an
// Owner, whose claim is the fencing token: a stale owner writes nothing.
//
// A quiet process sends one script each time that it renews its leases, however
// many they are. It is woken by what other processes publish, and inspects its
// streams for itself once in inspectEvery leases, in case that was lost.
//
// # Keys
//
// All begin with the queue's prefix, gancho by default, and those of an
// endpoint with its name as hash tag:
//
//	gancho:{<endpoint>}:q      stream   events: m the whole of one (entry.go); of an older version, fields as in x
//	gancho:{<endpoint>}:x      stream   what is not from the WAL: events to be sent again (r), operational
//	                                    events: t type, k key, n tenant, c commit time in µs, d data, v rule version, o operation,
//	                                    p previous, u unchanged, e errors, g tags, w webhook-id, s sequence
//	gancho:{<endpoint>}:log    stream   attempts that are not stored yet: n how many, b the records (logrecord.go)
//	gancho:{<endpoint>}:rt     zset     failed events by the time, in ms, of their next attempt
//	gancho:{<endpoint>}:at     hash     failed events' attempts, JSON
//	gancho:{<endpoint>}:dead   stream   dead letters: id, reason, attempts, and the event's fields
//	gancho:{<endpoint>}:state  hash     paused (why), since, hold, unblock, forgotten, closed (day), log_records, log_bytes, log_lost;
//	                                    overflow (what of the backlog is in the Overflow); in ms: failing, open, idling, trouble and noticed since, idle for
//	gancho:{<endpoint>}:jobs   hash     how far each resend or redrive is; expires a week after the last event
//	gancho:{<endpoint>}:fence  string   the last owner's claim
//	gancho:{<endpoint>}:capture string  in a Cluster: a copy of gancho:capture, which is compared by what appends
//	gancho:{<endpoint>}:leases zset     in a Cluster: the owner's claim by the time, in ms, at which it expires
//	gancho:{<endpoint>}:lease  string   an owner's claim, of a version before leases
//	gancho:capture             string   the fencing token of what appends
//	gancho:leases              zset     delivering processes and, but in a Cluster, all owners' claims, by the
//	                                    time, in ms, at which they expire
//	gancho:endpoints           set      names of endpoints that have, or had, a key of their own
//	gancho:source              hash     the source's identity, epoch and recorded position; tables (JSON);
//	                                    rule:<epoch>:<rule> the rule's number
//	gancho:parked              stream   changes that no event could be made of
//	gancho:expiry              hash     deletions of old dead letters and parked changes that were announced, JSON
//	gancho:{gancho:parked}:timers       stream what changes mean for timers, until it is applied
//	gancho:{gancho:parked}:timer-rules  hash   numbers of the rules that have, or had, timers
//	gancho:{gancho:parked}:timers-due:<n>  zset  a rule's timers by when they are due, in microseconds
//	gancho:{gancho:parked}:timers-set:<n>  hash  one of 16384 that have the rest of timers: see timers.go
//	gancho:{gancho:parked}:reasons hash   why the last redrive has left one there, by id
//	gancho:{gancho:source}:tally        hash   how far changes are counted: turn, counted, since
//	gancho:{gancho:source}:tally:<n>    hash   what was counted of commits in the n-th quarter of an hour since 1970
//	gancho:{<endpoint>}:tally:<n>       hash   what became of the endpoint's events of these commits; both expire after 35 days
//	gancho:wake                channel  names of endpoints with new events (in x: NUL behind the name),
//	                                    for other processes; empty: inspect everything. With \x01 and a number
//	                                    behind the name: move events until so many are left in q
package queue
