package delivery

import "time"

// NoticeKind says what has happened to an endpoint.
type NoticeKind string

// The kinds of notices.
const (
	// NoticePaused: the endpoint was paused by itself; its events are kept.
	NoticePaused NoticeKind = "paused"
	// NoticeRecovered: the first success after the endpoint was paused by
	// itself, or after the breaker had been open for more than a minute.
	NoticeRecovered NoticeKind = "recovered"
	// NoticeDeadLetter: an event was given up.
	NoticeDeadLetter NoticeKind = "dead_letter"
)

// Notice is something that somebody should know of an endpoint.
//
// Paused and recovered are told at least once: what Redis keeps of the endpoint
// says whether they have been, and whoever owns it next tells them otherwise.
// Dead letters are told once they are among the dead letters, and not again
// when the process ends before; of a flood, not all are (the dead letters
// themselves are all there).
type Notice struct {
	Kind     NoticeKind
	Endpoint string
	// Reason says why the endpoint is paused, or why the event was given up.
	Reason string
	// Since is when the endpoint was paused, or since when it had not answered.
	// Of a dead letter: when the event was given up.
	Since time.Time
	// Event, WebhookID and Tenant are the dead letter's, and Attempts how often
	// it was sent.
	Event, WebhookID, Tenant string
	Attempts                 int
}
