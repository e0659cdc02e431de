// Package dispatch delivers the queue's events to their endpoints: in order per
// key, retried on a schedule, with a breaker for each endpoint.
//
// # Guarantees
//
// First deliveries are in commit order per key and endpoint. An event is
// delivered at least once, always with the same webhook-id: again if the process
// ends before the acknowledgement, or if Redis loses it. An event that waits for
// its retry delays only its key; other keys and other endpoints are not delayed.
// Attempts and their times are kept in Redis and outlive the process, and so do
// suspensions, an open breaker, and since when an endpoint fails. Notices of
// suspensions and recoveries are sent at least once (Notice).
//
// # Who owns what
//
// A Dispatcher delivers the endpoints whose leases it has. Processes share the
// endpoints evenly, and acquire those of a process that died when its leases
// expire. Whatever an owner writes is checked against its fencing token: a stale
// owner changes nothing. Each endpoint has a courier, which alone reads its
// streams and sends its events. An entry is deleted when its event is done, so
// the stream is what is to be delivered.
//
// An endpoint's events run in lanes, one for each ordering key. The first event
// of a lane is in flight or waits for its retry, and the others wait behind it;
// only their ids stay in memory then (up to 2^20, under up to 2^16 keys; beyond
// that nothing more of the endpoint is read). What is sent again, and
// operational events, come in a second stream, with lanes and a share of the
// requests of its own: they neither delay nor overtake first deliveries.
//
// # Behind an outage
//
// An endpoint that has more to send than a turn and two rounds of its requests, or than there is
// memory for, is behind. Requests of endpoints that are behind, but for those with a rate, pass a gate, which all couriers of the process share: while the
// process is short of processor time, only so many of them are in flight, and the endpoints
// send in turns, each up to 64 requests or for 40 ms. New events of all other endpoints do
// not wait for them, here or at their receivers. The limit falls while goroutines wait for a
// processor and requests take more than twice as long as the fastest to the same endpoint;
// otherwise it rises, so that receivers that take their time are sent to as much as their
// concurrency allows. A request counts for 12 ms at most: receivers that do not answer keep
// nobody from sending.
//
// # How it fails
//
// While Redis is unreachable nothing new is read, requests in flight finish, and
// their results are kept until it answers. If it comes back as another run,
// couriers read their streams from the start and skip what they know. The log
// of attempts is written with the acknowledgements. It is bounded: if nobody
// stores and trims it, its oldest records are lost, and counted.
//
// # What an answer means
//
//   - Success: the event is done. With webhook-delivery: pause the endpoint is
//     suspended then.
//   - Any other answer, or none: the event is sent again on the schedule Retry, or
//     on RetryRefused after an answer that calls the request wrong (4xx but 408,
//     410, 425 and 429), until that schedule, or MaxAge, is used up. Then
//     OnExhausted decides.
//   - 401 or 403 to the last attempt of an event, when nothing was delivered since its
//     first, and another event was answered so since the last delivery: the endpoint is
//     suspended as misconfigured, the event kept, unless OnExhausted or PauseAfter say
//     otherwise. If that event is answered so again, OnExhausted decides: an event whose
//     content is refused must not keep the others from being tried.
//   - A token server that refuses the client: the same, of one event, and each time, because
//     it says nothing about events.
//   - webhook-delivery: abort, on a failure: the event becomes a dead letter
//     immediately.
//   - 410, or webhook-delivery: pause: the endpoint is suspended. So is one all of
//     whose attempts have failed for PauseAfter; its events are kept.
//   - 429 and 503 with Retry-After: nothing is sent to the endpoint until then.
//
// A list has one answer for all of its events; see endpoint.Batching for one that
// fails. After ten failures in a row of the endpoint itself (no connection, no
// answer in time, 5xx) under at least three keys, only probes are sent until it
// answers: the oldest event first, then another and the oldest in turns, after a
// second to a minute. They are no attempts, and while an endpoint is probed,
// suspended or paused its events do not grow older. Time in which nobody could make
// attempts, because the endpoint had no owner or Redis was unreachable, makes no event
// older, and does not count for PauseAfter.
package dispatch
