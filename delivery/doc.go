// Package delivery brings events to HTTP endpoints: a queue in Redis, and what
// sends from it.
//
// # Queue
//
// Each endpoint has a stream, whose entry ids are the events' positions in the
// WAL (ID). Redis refuses an id at or below the stream's last one, so appending
// a transaction again is harmless, and appending beyond a gap is fatal: what is
// in the gap could never be appended. Three rules follow. A batch is appended
// to a stream as a whole or not at all. The next batch waits until it has been
// appended to all of its streams. And nothing is appended over a connection to
// a server that may have lost the end of what was appended, which its changed
// identity tells (ErrRestarted), until the capture has gone back to the
// confirmed position.
//
// A position is confirmed to the source only when every event up to it is on
// Redis's disk, and with the replicas that may be promoted (RunDurable). The queue belongs to one source (Claim): another
// source's positions would not rise.
//
// Nothing is ever trimmed. A full Redis refuses batches (ErrFull), which holds
// the capture up, and still lets deliveries make room.
//
// Redis may be one server, one that Sentinel names, or a Cluster. A promoted
// replica is a server that may have lost the end; so is, of a Cluster, any
// master that is not one of those that were accepted. In a Cluster a batch is
// one transaction for each slot, and is repeated until all have succeeded; a
// master that is away holds the capture up until it is back or replaced, and
// deliveries from the others go on.
//
// # Delivery
//
// An entry is deleted when its event has been delivered, so what is in the
// stream is what is to be done. A Dispatcher delivers the endpoints whose
// leases it holds; processes share the endpoints evenly, and take over those
// of a process that died when its leases expire. What a delivery came to is
// written under a fence, so that an owner that has lost its lease, without
// knowing, changes nothing.
//
// An endpoint's events run in lanes, one for each ordering key. The first event
// of a lane is in flight or waits for its retry, and the others behind it, of
// which only the ids stay in memory then (up to 2^20, under up to 2^16 keys;
// beyond that the endpoint is read no further). Other lanes and other endpoints
// are not delayed. Attempts and their times are kept in Redis.
//
// First deliveries are in commit order per key and endpoint. An event is
// delivered again when the process ends before the answer was written down, or
// when Redis loses that; then it has the same webhook-id.
//
// What is sent again, and operational events, come in a second stream, whose
// events have lanes and a share of the requests of their own: they neither
// delay nor overtake first deliveries in any order that is promised.
//
// The log of attempts is written with the acknowledgements. It is bounded: if
// nobody takes it over, its oldest records are lost, and counted.
//
// While Redis is away nothing new is read, requests in flight finish, and what
// they came to is kept until Redis is back. When it comes back as another run,
// couriers read their streams from the start, skipping what they know.
//
// # What an answer means
//
//   - Success: the event is done. With webhook-delivery: pause the endpoint is
//     paused then.
//   - Any other answer, or none: the event is sent again on the schedule Retry, or
//     on RetryRefused after an answer that calls the request wrong (4xx but 408,
//     410, 425 and 429), until that schedule, or MaxAge, is used up. What happens
//     then is OnExhausted's to say.
//   - webhook-delivery: abort, on a failure: the event goes to the dead letters
//     at once.
//   - 410, or webhook-delivery: pause: the endpoint is paused. So is one all of
//     whose attempts have failed for PauseAfter; that gives no event up.
//   - 429 and 503 with Retry-After: nothing is sent to the endpoint until then.
//
// A list has one answer for all of its events; see Batching for what becomes of
// one that fails. After ten failures in a row of the endpoint itself (no
// connection, no answer in time, 5xx) under at least three keys, only probes are
// sent until it answers: the oldest event first, then another and the oldest in
// turns, after a second to a minute. They are no attempts, and while an endpoint
// is probed or paused its events do not grow older.
//
// Pauses, probing, and since when an endpoint fails outlive its owner. Notices
// tell of pauses and recoveries at least once (Notice).
//
// # Keys
//
// All begin with the queue's prefix, gancho by default, and those of an
// endpoint with its name as hash tag:
//
//	gancho:{<endpoint>}:q      stream   events: t type, k key, n tenant, c commit time in µs,
//	                                    d data, v rule version, p previous, u unchanged
//	gancho:{<endpoint>}:x      stream   what is not from the WAL: events to be sent again (r), operational
//	                                    events; fields as in q, w webhook-id, s sequence
//	gancho:{<endpoint>}:log    stream   attempts that are not stored yet: n how many, b JSON, one per line
//	gancho:{<endpoint>}:rt     zset     failed events by the time, in ms, of their next attempt
//	gancho:{<endpoint>}:at     hash     failed events' attempts, JSON
//	gancho:{<endpoint>}:dead   stream   events given up: id, reason, attempts, and the event's fields
//	gancho:{<endpoint>}:state  hash     paused (why), since, hold, unblock, log_records, log_bytes, log_lost; and,
//	                                    in ms: failing, open, idling, trouble and noticed since, idle for
//	gancho:{<endpoint>}:lease  string   its owner's claim, expires
//	gancho:{<endpoint>}:fence  string   the last owner's claim
//	gancho:source              hash     the source's identity, epoch and recorded position
//	gancho:parked              stream   changes that no event could be made of
//	gancho:workers             zset     delivering processes by the time they were heard of
//	gancho:wake                channel  names of endpoints with new events (in x: NUL behind the name),
//	                                    for other processes
//
// # HTTP
//
// A Sender makes one attempt at a time: a signed POST of an event or a list of
// them, in the endpoint's format, within a time limit, to an address that the
// endpoint may be at, through its proxy if it has one. It reads no more of the
// answer than it has to, follows no redirect, and says how the attempt ended
// (Outcome). Endpoints share connections only where they are let into the same
// networks, show the same certificate, trust the same CAs and use one proxy.
package delivery
