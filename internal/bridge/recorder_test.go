package bridge_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/bridge"
)

// A row that the database refuses for its values is left out, and the others
// are written; when the database refuses everything, nothing is left out.
func TestWriteLeavesOutWhatIsRefused(t *testing.T) {
	t.Parallel()
	rows := make([]int, 100)
	for i := range rows {
		rows[i] = i
	}
	for name, test := range map[string]struct {
		fail    func(rows []int) error
		refused float64
		written int
		failed  bool
	}{
		"none": {func([]int) error { return nil }, 0, 100, false},
		"two": {func(rows []int) error {
			if slices.Contains(rows, 17) || slices.Contains(rows, 99) {
				return &pgconn.PgError{Code: "22021"}
			}
			return nil
		}, 2, 98, false},
		"disk full":     {func([]int) error { return &pgconn.PgError{Code: "53100"} }, 0, 0, true},
		"no such table": {func([]int) error { return &pgconn.PgError{Code: "42P01"} }, 0, 0, true},
		"another error": {func([]int) error { return errors.New("broken") }, 0, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var written []int
			refused, err := bridge.Write(t.Context(), rows, func(_ context.Context, rows []int) error {
				if err := test.fail(rows); err != nil {
					return err
				}
				written = append(written, rows...)
				return nil
			})
			if (err != nil) != test.failed || refused != test.refused {
				t.Errorf("%v refused, error %v", refused, err)
			}
			if diff := cmp.Diff(test.written, len(written)); diff != "" || !slices.IsSorted(written) {
				t.Errorf("written -want +got:\n%s", diff)
			}
		})
	}
}

// TestLargeEventsFillABatch: what the database was away for is not gathered in
// memory, of many endpoints at once, by its rows alone.
func TestLargeEventsFillABatch(t *testing.T) {
	t.Parallel()
	for what, record := range map[string]func([]byte) queue.LogRecord{
		"body":   func(b []byte) queue.LogRecord { return queue.LogRecord{Kept: &webhook.Message{Data: b}} },
		"change": func(b []byte) queue.LogRecord { return queue.LogRecord{Kept: &webhook.Message{Change: b}} },
		"detail": func(b []byte) queue.LogRecord { return queue.LogRecord{Detail: b} },
		"error":  func(b []byte) queue.LogRecord { return queue.LogRecord{Error: string(b)} },
	} {
		if small, large := bridge.Fills(record(make([]byte, 100))), bridge.Fills(record(make([]byte, 16<<20))); small || !large {
			t.Errorf("%s: 100 bytes fill it: %v; 16 MiB do: %v", what, small, large)
		}
	}
}
