package cdc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gancho/internal/retry"
)

// The server ends the stream at a change that it cannot send, and does so again
// at every start: a text that it cannot convert to UTF-8, or a row of more than
// 1 GB.

// UnprintableError is a change that the server cannot send. It holds no row data.
type UnprintableError struct {
	Slot   string
	Commit LSN // of its transaction, which gancho recover --skip takes
	// Where says which change it is, as far as that is known: "of table public.t, after 2 others".
	Where string
	Cause error
	// Encodings are what source.encoding may have, so that the change can be sent.
	Encodings []string
}

// Error says what cannot be sent, and both ways out.
func (e *UnprintableError) Error() string {
	skip := fmt.Sprintf("run gancho recover --skip %s, which steps over exactly that transaction and records it, and send the rows that it changed with gancho backfill --table ... --where ... (it deletes nothing at the receivers)", e.Commit)
	if len(e.Encodings) > 0 {
		skip = fmt.Sprintf("write source.encoding: %s, which lets gancho convert, and park a change whose text is none; or %s", strings.Join(e.Encodings, " or "), skip)
	}
	return fmt.Sprintf("read slot %q: %v; it cannot send a change of the transaction at %s, %s, and ends the stream there at every start; %s", e.Slot, e.Cause, e.Commit, e.Where, skip)
}

// Unwrap returns the server's error.
func (e *UnprintableError) Unwrap() error { return e.Cause }

// unprintable explains such an error, or returns nil for another one. The server's
// message about a text quotes the text, and is left out.
func (r *Reader) unprintable(err error) error {
	d := r.decoder
	if !errors.Is(err, errEnded) || !d.inTx {
		return nil
	}
	out := &UnprintableError{Slot: r.options.Slot, Commit: d.tx.Commit, Where: d.whereabouts(), Cause: err}
	switch SQLState(err) {
	case codeNotInRepertoire, codeUntranslatable:
		out.Cause = fmt.Errorf("the server cannot convert a text to UTF-8 (SQLSTATE %s)", SQLState(err))
		out.Encodings = r.encodings()
	case codeLimit: // it says "out of memory", which it is not
		out.Cause = fmt.Errorf("a row takes more than 1 GB as the server prints it, a bytea twice its size (SQLSTATE %s)", codeLimit)
	case codeInternal:
	default:
		return nil
	}
	return out
}

// Skip makes the reader step over the transaction whose Commit it is, once everything before it is
// confirmed, and no other. 0: over none. Safe from any goroutine, before Run, too.
func (r *Reader) Skip(commit LSN) { r.skip.Store(uint64(commit)) }

// skips reports whether a message opens the transaction that is to be stepped over.
func (s *session) skips(message []byte) bool {
	skip := s.r.skip.Load()
	return skip != 0 && len(message) == 21 && message[0] == 'B' && uint64(decodeBegin(&cursor{rest: message[1:]}).Commit) == skip
}

// stepOver ends the stream before a transaction, so that the next one starts behind it: the server
// leaves out what commits before the position that it is asked for. The handler confirms that
// position, because it may want to store it first, and with it all that came before.
func (s *session) stepOver(h Handler) error {
	next := LSN(s.r.skip.Load()) + 1
	if err := handled(h.Keepalive(next)); err != nil {
		return err
	}
	if err := s.awaitConfirmed(h, next); err != nil {
		return err
	}
	return errSkipped
}

// encodings are those that source.encoding may have for the database.
func (r *Reader) encodings() []string {
	if r.options.Encoding != "" {
		return nil
	}
	var names []string
	for _, e := range []Encoding{Latin1, Win1252, UTF8} {
		if e.Misfit(r.source.Settings.Encoding) == "" {
			names = append(names, string(e))
		}
	}
	return names
}

// describeTimeout bounds the wait for what was read to be confirmed.
const describeTimeout = 10 * time.Second

// awaitDescription waits until all that came before the open transaction is confirmed: a new
// stream begins with that transaction then, and describes the table of its first change.
func (r *Reader) awaitDescription(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	for r.Confirmed() < r.decoder.end {
		if retry.Wait(ctx, growCheck) != nil {
			return
		}
	}
}

// unplaced reports whether it is not known which table the change that comes next is of.
func (d *decoder) unplaced() bool { return d.inner == nil && d.ordinal == 0 }

// whereabouts says which change comes next, as far as that is known: its table
// is when the server has just described it.
func (d *decoder) whereabouts() string {
	if d.inner != nil {
		return fmt.Sprintf("of table %s, after %d others", d.inner.TableName(), d.ordinal)
	}
	if d.unplaced() {
		return "the first one"
	}
	return fmt.Sprintf("after %d others, the last of table %s", d.ordinal, d.change.Relation.TableName())
}
