package cdc

import (
	"errors"
	"fmt"
	"strings"
)

// The server ends the stream at a change that it cannot send, and does so again
// at every start: a text that it cannot convert to UTF-8, or a row of more than
// 1 GB.

// unprintable explains such an error, or returns nil for another one. The server's
// message about a text quotes the text, and is left out.
func (r *Reader) unprintable(err error) error {
	d := r.decoder
	if !errors.Is(err, errEnded) || !d.inTx {
		return nil
	}
	text := false
	switch SQLState(err) {
	case codeNotInRepertoire, codeUntranslatable:
		text = true
		err = fmt.Errorf("the server cannot convert a text to UTF-8 (SQLSTATE %s)", SQLState(err))
	case codeLimit, codeInternal:
	default:
		return nil
	}
	skip := fmt.Sprintf("run SELECT pg_replication_slot_advance(%s, '%s'), which skips that transaction, start once with gancho run --accept-source, and send the rows that it changed with gancho backfill --table ... --where ... (it deletes nothing at the receivers)",
		quoteLiteral(r.options.Slot), d.tx.Commit+1)
	if fitting := r.encodings(); text && len(fitting) > 0 {
		skip = fmt.Sprintf("write source.encoding: %s, which lets gancho convert, and park a change whose text is none; or %s", strings.Join(fitting, " or "), skip)
	}
	return fmt.Errorf("read slot %q: %w; it cannot send a change of the transaction at %s, %s, and ends the stream there at every start; %s",
		r.options.Slot, err, d.tx.Commit, d.whereabouts(), skip)
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

// whereabouts says which change comes next, as far as that is known: its table
// is when the server has just described it.
func (d *decoder) whereabouts() string {
	if d.inner != nil {
		return fmt.Sprintf("of table %s, after %d others", d.inner.TableName(), d.ordinal)
	}
	if d.ordinal == 0 {
		return "the first one"
	}
	return fmt.Sprintf("after %d others, the last of table %s", d.ordinal, d.change.Relation.TableName())
}
