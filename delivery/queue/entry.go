package queue

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"gancho/delivery/webhook"
)

// An entry of an endpoint's main stream has one field, c, with the whole event: with a field for each part
// Redis spends two and a half times as much on appending it (docs/performance.md). Its first line are numbers: the commit time in microseconds, and the lengths of the parts, which follow without
// anything between them, in the order of entryPart. Lengths that are left out at the end are 0, and what
// newer versions add at the end is ignored. Entries of older versions, and those of the side stream, have a field for
// each part, c being the commit time alone: see fill. A process of an older version cannot read a packed c as a time, and so
// waits with an error, where it would take an entry without c for an event without data.
const packedField = "c"

// isPacked reports whether a field's value is a packed entry.
func isPacked(field, value string) bool { return field == packedField && strings.Contains(value, "\n") }

// The parts of a packed entry. The scripts know the first three.
const (
	partType = iota
	partTenant
	partKey
	partVersion
	partOp
	partData
	partPrevious
	partUnchanged
	partErrors
	partTags
	partChange
	entryParts
)

// namingParts have a length in every entry, for the scripts.
const namingParts = partKey + 1

// appendEntry appends a packed entry.
func appendEntry(dst []byte, committed time.Time, parts *[entryParts][]byte) []byte {
	dst = strconv.AppendInt(dst, committed.UnixMicro(), 10)
	n := entryParts
	for n > namingParts && len(parts[n-1]) == 0 {
		n--
	}
	for _, p := range parts[:n] {
		dst = strconv.AppendInt(append(dst, ' '), int64(len(p)), 10)
	}
	dst = append(dst, '\n')
	for _, p := range parts[:n] {
		dst = append(dst, p...)
	}
	return dst
}

// unpackEntry sets what a packed entry says. The message keeps the bytes, but for the names: a lane
// has its key long after the event was sent.
func unpackEntry(m *webhook.Message, packed []byte) error {
	head, rest, ok := bytes.Cut(packed, []byte("\n"))
	micros, head, more := bytes.Cut(head, []byte(" "))
	if !ok || !more {
		return errEntry
	}
	var err error
	if m.Time, err = parseMicros(string(micros)); err != nil {
		return err
	}
	var parts [entryParts][]byte
	at := 0
	for i := 0; more && i < entryParts; i++ {
		var number []byte
		number, head, more = bytes.Cut(head, []byte(" "))
		n, err := strconv.Atoi(string(number))
		if err != nil || n < 0 || n > len(rest)-at {
			return errEntry
		}
		parts[i] = rest[at : at+n : at+n]
		at += n
	}
	names := string(rest[:len(parts[partType])+len(parts[partTenant])+len(parts[partKey])+len(parts[partVersion])+len(parts[partOp])])
	for i, name := range [...]*string{&m.Type, &m.Tenant, &m.Key, &m.Version, &m.Op} {
		*name, names = names[:len(parts[i])], names[len(parts[i]):]
	}
	m.Data = parts[partData]
	if m.Data == nil {
		m.Data = []byte{} // as if it had a field
	}
	m.Previous, m.Unchanged, m.Errors, m.Change = given(parts[partPrevious]), given(parts[partUnchanged]), given(parts[partErrors]), given(parts[partChange])
	if len(parts[partTags]) > 0 {
		return json.Unmarshal(parts[partTags], &m.Tags)
	}
	return nil
}

// given returns nil for a part that is empty, and so not there.
func given(part []byte) []byte {
	if len(part) == 0 {
		return nil
	}
	return part
}

// luaNaming begins the scripts that look into entries: naming(fields) returns an entry's commit time, type, tenant and key.
const luaNaming = `
local function naming(f)
  local committed, name, tenant, key = '', '', '', ''
  for j = 1, #f, 2 do
    local what, v = f[j], f[j + 1]
    if what == 'c' then
      local time, t, n, k, at = string.match(v, '^(%d+) (%d+) (%d+) (%d+)[^\n]*\n()')
      if at then
        t, n, k = tonumber(t), tonumber(n), tonumber(k)
        return time, string.sub(v, at, at + t - 1), string.sub(v, at + t, at + t + n - 1), string.sub(v, at + t + n, at + t + n + k - 1)
      end
      committed = v
    elseif what == 't' then name = v
    elseif what == 'n' then tenant = v
    elseif what == 'k' then key = v end
  end
  return committed, name, tenant, key
end
`
