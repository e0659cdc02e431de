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
// Endpoints share connections only if they are allowed into the same networks,
// show the same certificate, trust the same CAs and use the same proxy. No error
// and no log line holds a secret, a URL's path or query, or anything of a body.
package webhook
