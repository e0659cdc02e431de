package queue

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Leftovers returns the names of the endpoints, known or not, that have a log
// of attempts or dead letters in Redis, by name.
func (q *Queue) Leftovers(ctx context.Context) ([]string, error) {
	names := map[string]bool{}
	for _, what := range []string{"log", "dead"} {
		err := q.scan(ctx, escapeGlob(q.keys.prefix)+":{*}:"+what, func(key string) error {
			names[strings.TrimSuffix(strings.TrimPrefix(key, q.keys.prefix+":{"), "}:"+what)] = true
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list logs and dead letters: %w", unreachable(err))
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}
