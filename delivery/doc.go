// Package delivery holds the four packages that bring events to HTTP endpoints,
// in the order of the data path:
//
//	queue     events in Redis: streams, positions, durability, leases, acknowledgements
//	dispatch  lanes, retries, the breaker, notices: what is sent when
//	webhook   one signed request and its verdict
//	endpoint  what an endpoint is: settings, defaults, bounds, secrets
//
// dispatch works through queue's Owner and webhook's Sender; queue knows no
// dispatcher, webhook no Redis, and endpoint none of them.
package delivery
