package state

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// LatelyAttempts is how many attempts a Lately is about at most, and latelyStep how many of them make a point of its line.
const (
	LatelyAttempts = 40
	latelyStep     = 4
)

// Lately is what the newest attempts to an endpoint led to.
type Lately struct {
	Attempts  int `json:"attempts"`
	Delivered int `json:"delivered"`
	// Line is how many percent of each four attempts were delivered, the oldest first.
	Line []int64 `json:"line"`
}

// latelyPlan has latelySQL read along the index, and end after so many rows. PostgreSQL believes that each endpoint has few, and a
// tenant next to none, and would read and sort all of the span: of a large endpoint thousands.
const latelyPlan = `set local enable_sort = off`

const latelySQL = `
	select e.name, array(select outcome = 'delivered' from gancho.attempts
		where endpoint = e.name and time > $2 and outcome <> 'superseded' and ($3 = '' or tenant = $3) order by time desc limit $4)
	from unnest($1::text[]) e (name)`

// Lately returns what the newest attempts since a time led to, by endpoint: of one tenant's events, "": of all. An
// endpoint without any is not there. It reads a few rows of each endpoint along an index, however many there are.
func (s *Store) Lately(ctx context.Context, endpoints []string, since time.Time, tenant string) (map[string]Lately, error) {
	type row struct {
		endpoint string
		outcomes []bool // the newest first
	}
	end, err := waitForTurn(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the newest attempts of endpoints: %w", err)
	}
	defer end()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var rows []row
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, latelyPlan); err != nil {
			return err
		}
		found, _ := tx.Query(ctx, latelySQL, s.text.encodeAll(endpoints), since, s.text.encode(tenant), LatelyAttempts) // CollectRows returns its error
		rows, err = pgx.CollectRows(found, func(r pgx.CollectableRow) (row, error) {
			var v row
			err := r.Scan(&v.endpoint, &v.outcomes)
			decodeIn(&v.endpoint)
			return v, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the newest attempts of endpoints: %w", explain(err))
	}
	out := make(map[string]Lately, len(rows))
	for _, r := range rows {
		if len(r.outcomes) > 0 {
			out[r.endpoint] = latelyOf(r.outcomes)
		}
	}
	return out, nil
}

func latelyOf(outcomes []bool) Lately {
	l := Lately{Attempts: len(outcomes)}
	slices.Reverse(outcomes)
	for step := range slices.Chunk(outcomes, latelyStep) {
		delivered := 0
		for _, ok := range step {
			if ok {
				delivered++
			}
		}
		l.Delivered += delivered
		l.Line = append(l.Line, int64(100*delivered/len(step)))
	}
	return l
}
