package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gancho/cdc"
)

// Record is the file in which Apply writes what it does at a source. It is appended to only,
// a line of JSON for each step. It has no row data and no secret.
type Record struct {
	path    string
	entries []entry
}

// entry is a statement that was begun, and how far it got.
type entry struct {
	Number int    `json:"number"` // the same in all lines about one statement
	State  string `json:"state"`
	Time   string `json:"time"`
	// System and Database are where it ran.
	System   string   `json:"system,omitempty"`
	Database string   `json:"database,omitempty"`
	SQL      string   `json:"sql,omitempty"`
	Undo     string   `json:"undo,omitempty"`
	Who      *cdc.Who `json:"who,omitempty"`
	Tables   []string `json:"tables,omitempty"`
	// Leftover: it took back what the rules needed no longer.
	Leftover bool `json:"leftover,omitempty"`
}

// The states of an entry. One that stays begun was cut off: it may have been done.
const (
	begun  = "begun"
	done   = "done"
	failed = "failed" // it has changed nothing
	undone = "undone"
)

// RecordPath is where the record of a configuration file is.
func RecordPath(config string) string {
	return strings.TrimSuffix(config, filepath.Ext(config)) + ".plan.jsonl"
}

// OpenRecord reads a record; a file that does not exist is an empty one. A last line that
// a crash has cut off is left out: its statement had not begun.
func OpenRecord(path string) (*Record, error) {
	r := &Record{path: path}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the record of applied plans: %w", err)
	}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%s:%d: this is no record of gancho plan: %w; restore the file, or move it away and undo by hand", path, n, err)
		}
		r.merge(e)
	}
	return r, nil
}

func (r *Record) merge(e entry) {
	if e.State == begun {
		r.entries = append(r.entries, e)
		return
	}
	for i := range r.entries {
		if r.entries[i].Number == e.Number {
			r.entries[i].State = e.State
		}
	}
}

// begin writes that a statement is about to run, and returns its number.
func (r *Record) begin(p *Plan, c *Change) (int, error) {
	n := 1
	if len(r.entries) > 0 {
		n = r.entries[len(r.entries)-1].Number + 1
	}
	return n, r.write(entry{
		Number: n, State: begun, System: p.system, Database: p.Database, SQL: c.SQL, Undo: c.Undo, Who: &c.Who, Tables: c.Tables, Leftover: c.Leftover(),
	})
}

func (r *Record) end(number int, state string) error {
	return r.write(entry{Number: number, State: state})
}

// write appends an entry, durably. What a crash has left of a line is cut off first.
func (r *Record) write(e entry) error {
	e.Time = time.Now().UTC().Format(time.RFC3339)
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(r.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the record of applied plans: %w", err)
	}
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		whole := int64(bytes.LastIndexByte(old, '\n') + 1)
		_, err = f.WriteAt(append(line, '\n'), whole)
		if err == nil {
			err = f.Truncate(whole + int64(len(line)) + 1)
		}
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("write the record that gancho plan --undo reads: %w; let this user write there", err)
	}
	r.merge(e)
	return nil
}
