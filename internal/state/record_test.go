package state_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"gancho/internal/state"
)

// TestRecordsAsJSON: the API and the command line print records as they are.
func TestRecordsAsJSON(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		record any
		want   string
	}{
		{state.Token{ID: 1, Name: "erp", Role: state.Viewer, Created: at, CreatedBy: "cli:ana"},
			`{"name":"erp","role":"viewer","created":"2026-03-14T12:00:00Z","created_by":"cli:ana"}`},
		{state.Change{ID: 1, Time: at, Actor: "cli:ana", Action: "dead.drop", Object: "dead", Before: json.RawMessage(`{"dropped":1}`)},
			`{"id":1,"time":"2026-03-14T12:00:00Z","actor":"cli:ana","action":"dead.drop","object":"dead","before":{"dropped":1}}`},
		{state.Job{Kind: state.Resend, Endpoint: "crm", Filter: state.Filter{Key: "7"}, Total: 3, Cursor: "x"},
			`{"kind":"resend","endpoint":"crm","filter":{"key":"7"},"total":3,"sent":0}`},
	} {
		text, err := json.Marshal(test.record)
		check(t, err)
		same(t, fmt.Sprintf("%T", test.record), test.want, string(text))
	}
}

func ExampleParseKeys() {
	keys, err := state.ParseKeys("2026:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=, 2025:Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=")
	fmt.Println(keys, err)
	_, err = state.ParseKeys("c2VjcmV0")
	fmt.Println(err)
	// Output:
	// keys 2026, 2025 <nil>
	// parse keys: key 1 has 6 bytes, 32 are needed; create one with: gancho secrets generate-key
}

func ExampleRole_Covers() {
	fmt.Println(state.Admin.Covers(state.Operator), state.Viewer.Covers(state.Operator), state.Role("root").Valid())
	// Output: true false false
}
