// Package forward sends to a developer's machine what a bridge sends to its receivers: it follows the bridge's tail over the API, reads
// each event that is kept, and posts the request that the endpoint gets to another address, signed with a secret of its own, because
// the bridge gives nobody an endpoint's.
//
// An event is forwarded when its delivery has ended, which is when the bridge keeps it, and once for each endpoint, or again when somebody
// has sent it again. What came while the tail was interrupted is read from the delivery log. Nothing is left out in silence: an event
// that is not kept, or that waits for its receiver, is named.
package forward
