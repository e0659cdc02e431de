package queue

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"gancho/cdc"
	"gancho/delivery/webhook"
)

// The widths, in bits, of what an ID is made of.
const (
	lsnBits     = 52
	epochBits   = 64 - lsnBits
	nBits       = 16
	ordinalBits = 64 - nBits
	maxEpoch    = 1<<epochBits - 1
)

// ID is an event's position as a stream entry's id,
// <epoch<<52 | commit LSN>-<ordinal<<16 | n>. Ids rise in commit order, the same
// however often the WAL is read. The zero ID, no event's, comes before all others.
type ID struct{ hi, lo uint64 }

// NewID returns the id of a change's n-th event. It fails when a part does not fit: an
// LSN of 4 PiB, an ordinal of 2^48, n of 2^16, or more; or an epoch outside 1 to 4095.
func NewID(epoch uint16, p cdc.Position, n int) (ID, error) {
	switch {
	case epoch == 0 || epoch > maxEpoch:
		return ID{}, fmt.Errorf("create event id: epoch %d is outside 1 to %d", epoch, maxEpoch)
	case p.Commit == 0 || uint64(p.Commit) >= 1<<lsnBits:
		return ID{}, fmt.Errorf("create event id: commit LSN %s does not fit in %d bits; a source that has written that much WAL is not supported", p.Commit, lsnBits)
	case p.Ordinal >= 1<<ordinalBits:
		return ID{}, fmt.Errorf("create event id: change %d of its transaction does not fit in %d bits", p.Ordinal, ordinalBits)
	case n < 0 || n >= 1<<nBits:
		return ID{}, fmt.Errorf("create event id: event %d of its change does not fit in %d bits; split the rules of this table", n, nBits)
	}
	return ID{hi: uint64(epoch)<<lsnBits | uint64(p.Commit), lo: p.Ordinal<<nBits | uint64(n)}, nil
}

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	hi, lo, ok := strings.Cut(s, "-")
	if !ok {
		return ID{}, fmt.Errorf("parse event id %q: want <number>-<number>", s)
	}
	h, err1 := strconv.ParseUint(hi, 10, 64)
	l, err2 := strconv.ParseUint(lo, 10, 64)
	if err := cmp.Or(err1, err2); err != nil {
		return ID{}, fmt.Errorf("parse event id %q: %w", s, err)
	}
	return ID{h, l}, nil
}

// next is the id that comes right after this one.
func (id ID) next() ID {
	if id.lo == math.MaxUint64 {
		return ID{id.hi + 1, 0}
	}
	return ID{id.hi, id.lo + 1}
}

// previous is the id that comes right before this one, which is not the zero one.
func (id ID) previous() ID {
	if id.lo == 0 {
		return ID{id.hi - 1, math.MaxUint64}
	}
	return ID{id.hi, id.lo - 1}
}

// Bytes are 16 that are ordered as the ids are.
func (id ID) Bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(make([]byte, 0, 16), id.hi), id.lo)
}

// IDFromBytes reads what Bytes has returned; anything else is the zero ID.
func IDFromBytes(b []byte) ID {
	if len(b) != 16 {
		return ID{}
	}
	return ID{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// String returns the id as Redis writes it.
func (id ID) String() string { return string(id.append(make([]byte, 0, 41))) }

// MarshalText writes it as String does.
func (id ID) MarshalText() ([]byte, error) { return id.append(nil), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}

func (id ID) append(dst []byte) []byte {
	dst = strconv.AppendUint(dst, id.hi, 10)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, id.lo, 10)
}

// Compare returns -1, 0 or +1 for before, equal and after.
func (id ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(id.hi, other.hi), cmp.Compare(id.lo, other.lo))
}

// SameTransaction reports whether both are of one transaction's events.
func (id ID) SameTransaction(other ID) bool { return id.hi == other.hi }

// Before returns the id before this one.
func (id ID) Before() ID {
	if id.lo == 0 {
		return ID{id.hi - 1, math.MaxUint64}
	}
	return ID{id.hi, id.lo - 1}
}

// Scatter returns a number that differs for most pairs of ids.
func (id ID) Scatter() uint64 { return id.hi*0x9e3779b97f4a7c15 ^ id.lo }

// IsZero reports whether the id is no event's.
func (id ID) IsZero() bool { return id == ID{} }

// Epoch counts the identities that the source has had, from 1.
func (id ID) Epoch() uint16 { return uint16(id.hi >> lsnBits) }

// Position is the change's.
func (id ID) Position() cdc.Position {
	return cdc.Position{Commit: cdc.LSN(id.hi & (1<<lsnBits - 1)), Ordinal: id.lo >> nBits}
}

// N is the event's number within its change.
func (id ID) N() int { return int(id.lo & (1<<nBits - 1)) }

// The fixed widths, in hexadecimal digits, of a sequence's parts.
const (
	epochDigits   = epochBits / 4
	lsnDigits     = 16
	ordinalDigits = ordinalBits / 4
	nDigits       = nBits / 4
)

// Sequence is the id as receivers get it: <epoch>-<commit LSN>-<ordinal>-<n>, in
// hexadecimal of fixed width, so that comparing text compares positions.
func (id ID) Sequence() string { return id.WebhookID("")[1:] }

// WebhookID is <source>-<sequence>: unique over sources, one over attempts, restarts and resends.
func (id ID) WebhookID(source string) string {
	b := make([]byte, 0, webhook.SourceDigits+epochDigits+lsnDigits+ordinalDigits+nDigits+4)
	p := id.Position()
	b = append(append(b, source...), '-')
	b = append(appendHex(b, uint64(id.Epoch()), epochDigits), '-')
	b = append(appendHex(b, uint64(p.Commit), lsnDigits), '-')
	b = append(appendHex(b, p.Ordinal, ordinalDigits), '-')
	return string(appendHex(b, uint64(id.N()), nDigits))
}

// ParseWebhookID reads what WebhookID wrote.
func ParseWebhookID(s string) (source string, id ID, err error) {
	var v [5]uint64
	parts, widths := strings.Split(s, "-"), [...]int{webhook.SourceDigits, epochDigits, lsnDigits, ordinalDigits, nDigits}
	ok := len(parts) == len(v)
	for i := 0; ok && i < len(v); i++ {
		v[i], err = strconv.ParseUint(parts[i], 16, 64)
		ok = err == nil && len(parts[i]) == widths[i]
	}
	if !ok {
		return "", ID{}, fmt.Errorf("parse webhook-id %q: want <source>-<epoch>-<lsn>-<ordinal>-<n> as it was sent", s)
	}
	if id, err = NewID(uint16(v[1]), cdc.Position{Commit: cdc.LSN(v[2]), Ordinal: v[3]}, int(v[4])); err != nil {
		return "", ID{}, err
	}
	return parts[0], id, nil
}

func appendHex(dst []byte, v uint64, digits int) []byte {
	for digits--; digits >= 0; digits-- {
		dst = append(dst, "0123456789abcdef"[v>>(4*digits)&0xf])
	}
	return dst
}
