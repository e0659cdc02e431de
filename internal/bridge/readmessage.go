package bridge

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"strconv"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/state"
)

// readHeader begins a message. What is empty chooses everything.
type readHeader struct {
	Job, Claim, Seq int64
	// Round is a higher one when rows are read again because capture could not take them.
	Round    int64
	Snapshot string
	XID      string   `json:",omitempty"` // of the transaction that has read the rows; empty: there are none
	Key      []string `json:",omitempty"` // the table's primary key
	Endpoint string   `json:",omitempty"`
	Tenant   *string  `json:",omitempty"`
	Events   []string `json:",omitempty"`
	// Before is where the backfill was before these rows: from there they are read again if they cannot be put
	// into the stream, by whatever process.
	Before *state.BackfillPlace `json:",omitempty"`
}

// refusedRounds are the rounds before one, of a claim of a job. What others write later, it does not touch.
type refusedRounds struct{ job, claim, before int64 }

func (f refusedRounds) has(h *readHeader) bool {
	return h.Job == f.job && h.Claim == f.claim && h.Round < f.before
}

// chosen reports whether an event is.
func (h *readHeader) chosen(event string) bool { return queue.Chooses(h.Events, event) }

// prefix is that of the messages, which other bridges of the database pass over.
func (r *reads) prefix() string { return "gancho.rows." + r.Source.Slot }

// seal returns a message of rows, which may be none.
func (r *reads) seal(h *readHeader, rows []byte) (cdc.Message, error) {
	header, err := json.Marshal(h)
	if err != nil {
		return cdc.Message{}, err
	}
	plain := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(header)+len(rows)), uint32(len(header)))
	plain = append(append(plain, header...), rows...)
	sealed, err := r.State.Keyring.SealRows(r.Source.Slot, plain)
	return cdc.Message{Prefix: r.prefix(), Content: sealed}, err
}

// errForeign says that a message has our prefix and is not ours: every login of the database can write one.
var errForeign = errors.New("no key of state.key opens it; if a key was removed while a backfill ran, add it again behind the first one and start that backfill again, else look who calls pg_logical_emit_message")

// errCopied is of a message of ours that somebody else has written again.
var errCopied = errors.New("it is a copy, in a transaction that has not read its rows; look who calls pg_logical_emit_message")

// unseal reads what seal has written; errForeign.
func (r *reads) unseal(content []byte) (h readHeader, rows []byte, err error) {
	if r.State == nil {
		return h, nil, errForeign
	}
	plain, err := r.State.Keyring.OpenRows(r.Source.Slot, content)
	if err != nil {
		return h, nil, errForeign // that of the keyring is about what is stored
	}
	if len(plain) < 4 || int(binary.BigEndian.Uint32(plain)) > len(plain)-4 {
		return h, nil, errors.New("they are cut off")
	}
	end := 4 + int(binary.BigEndian.Uint32(plain))
	return h, plain[end:], json.Unmarshal(plain[4:end], &h)
}

// isXID reports whether a transaction's id of 64 bits, as text, is the one that the stream has.
func isXID(text string, xid uint32) bool {
	n, err := strconv.ParseUint(text, 10, 64)
	return err == nil && uint32(n) == xid
}
