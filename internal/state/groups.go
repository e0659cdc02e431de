package state

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// DeadGroup are dead letters of an endpoint that failed in the same way.
type DeadGroup struct {
	Endpoint string `json:"endpoint"`
	Event    string `json:"event"`
	Class    string `json:"class"`
	Status   int    `json:"status,omitempty"` // the last attempt's; 0: no answer came
	Count    int64  `json:"count"`
	// Oldest and Newest are their last attempts.
	Oldest time.Time `json:"oldest"`
	Newest time.Time `json:"newest"`
	// Sample is one of them.
	Sample DeadLetter `json:"sample"`
}

// DeadGroups groups the dead letters that a filter chooses: up to n groups, the largest first.
func (s *Store) DeadGroups(ctx context.Context, f Filter, n int) ([]DeadGroup, error) {
	w, err := s.where(ctx, &f, deadTable)
	if err != nil {
		return nil, err
	}
	const what = "group dead letters"
	groups, err := collectMany(ctx, s, what, `select endpoint, event, class, status, count(*), min(last), max(last), max(id) from gancho.dead_letters`+w.sql()+
		` group by 1, 2, 3, 4 order by 5 desc, 8 limit `+w.param(n), w.args, func(row pgx.CollectableRow) (DeadGroup, error) {
		var g DeadGroup
		err := row.Scan(&g.Endpoint, &g.Event, &g.Class, &g.Status, &g.Count, &g.Oldest, &g.Newest, &g.Sample.ID)
		g.Oldest, g.Newest = g.Oldest.UTC(), g.Newest.UTC()
		decodeIn(&g.Endpoint, &g.Event, &g.Class)
		return g, err
	})
	if err != nil || len(groups) == 0 {
		return groups, err
	}
	ids := make([]int64, len(groups))
	for i := range groups {
		ids[i] = groups[i].Sample.ID
	}
	samples, err := s.DeadLetters(ctx, Filter{IDs: ids}, 0, n)
	for i := range groups {
		if j := slices.IndexFunc(samples, func(d DeadLetter) bool { return d.ID == groups[i].Sample.ID }); j >= 0 {
			groups[i].Sample = samples[j] // else somebody has dropped it since
		}
	}
	return groups, err
}
