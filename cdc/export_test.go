package cdc

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// MembershipsSQL is Encoding.memberships of all tables, as a subquery.
func MembershipsSQL(conn *pgx.Conn) string {
	return Encoding("").memberships(serverVersion(conn), "select oid from pg_catalog.pg_class")
}

// SenderTimeouts returns how long a server waits for signs of life, of a session that streams and what the session's own setting is.
func SenderTimeouts(ctx context.Context, dsn string, streams bool) (server, session, is time.Duration, err error) {
	conn, err := connectReplication(ctx, dsn, "", streams)
	if err != nil {
		return 0, 0, 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	server, session = greetingOf(conn).timeouts()
	rows, err := ask(ctx, conn, "select "+senderTimeout)
	if err != nil {
		return 0, 0, 0, err
	}
	ms, err := strconv.Atoi(rows[0][0])
	return server, session, time.Duration(ms) * time.Millisecond, err
}

// Decoder lets tests decode messages without a server.
type Decoder struct{ *decoder }

// NewDecoder returns a decoder that knows no types.
func NewDecoder() Decoder {
	return Decoder{newDecoder(NewTypes(""), func(context.Context, []uint32) error { return nil })}
}

// Message decodes one message.
func (d Decoder) Message(src []byte, h Handler) error {
	err := d.message(context.Background(), src, h)
	if err == nil {
		return nil // without the allocation that looking into an error takes
	}
	var handler *handlerError
	if errors.As(err, &handler) {
		return handler.err
	}
	return err
}

// ErrRedescribe ends a session whose descriptions are out of date.
var ErrRedescribe = errRedescribe

// Scan splits frames as the receiver does.
func Scan(data []byte) (whole, need int, err error) {
	s := &session{r: &Reader{}, reply: make(chan struct{}, 1)}
	return s.scan(data, &burst{})
}

// LostSlot says why a slot is lost of which the server has this status, reason and conflict.
func LostSlot(status, invalidation string, conflicting, synced bool) *LostSlotError {
	s := slotState{name: "gancho", plugin: "pgoutput", kind: "logical", status: status, invalidation: invalidation, conflicting: conflicting, synced: synced}
	return s.lost()
}
