// Package webhook makes one signed request to a receiver and says what its
// answer means.
//
// Sender.Send is one attempt: a signed POST of an event, or of a list of them
// (SendList), in the endpoint's format, within its timeout, to an address that
// the endpoint may be at, through its proxy if it has one. It reads no more of the
// answer than it has to, follows no redirect, and returns how the attempt ended
// (Outcome), which is never an error of its own: an endpoint that cannot be used
// is an Outcome of ClassConfig. Probe is Send for a person to look at, and Verify
// is the receiver's side. Whether and when an event is retried is the caller's
// decision.
//
// An attempt is one request; one more when a connection that had been kept turns out to be closed,
// and the receiver's machine has acknowledged nothing of the request, when an HTTP/2 receiver says
// that it has not looked at the request, or when it requires HTTP/1.1, which is then remembered.
// One more, too, when a receiver answers 401 to an access token that may have ended, with a new one;
// and where a header has room for one signature, one with each other secret while they rotate, when
// the receiver answers 400, 401 or 403, and after 422, 500 or a body that does not count as success
// until one was delivered, then once a minute.
//
// HTTP/1.1 goes over connections of our own: the goroutine that sends a request owns its connection
// until it has read the answer. HTTP/2, which the TLS handshake decides on, is net/http's.
//
// Endpoints of one host share connections if they are allowed into the same networks,
// show the same certificate, trust the same CAs and use the same proxy. Connections are
// left after a minute, which follows DNS, and after an HTTP/2 attempt without an answer,
// which leaves a proxy that has lost the receiver. No error
// and no log line holds a secret, a URL's path or query, or anything of a body.
package webhook
