// Package webhook is one signed request to a receiver, and what its answer means.
//
// A Sender makes one attempt at a time: a signed POST of an event or a list of
// them, in the endpoint's format, within a time limit, to an address that the
// endpoint may be at, through its proxy if it has one. It reads no more of the
// answer than it has to, follows no redirect, and says how the attempt ended
// (Outcome). Endpoints share connections only where they are let into the same
// networks, show the same certificate, trust the same CAs and use one proxy.
package webhook
