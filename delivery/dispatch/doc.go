// Package dispatch delivers the queue's events to their endpoints: in order per
// key, retried on a schedule, with a breaker for each endpoint.
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
package dispatch
