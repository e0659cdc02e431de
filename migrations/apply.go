package migrations

import (
	"context"
	"errors"
)

// ErrNewer: the schema has been migrated by a newer version of the program.
var ErrNewer = errors.New("the schema gancho is newer than this program; install the newer gancho here, too")

// Apply brings the schema gancho of a database up to date and returns the
// names of what it applied, in order; none: it was up to date.
func Apply(ctx context.Context, dsn string) ([]string, error) { return nil, errors.New("not written yet") }

// Pending returns the names of what Apply would apply, and changes nothing.
// ErrNewer: a newer program has been here.
func Pending(ctx context.Context, dsn string) ([]string, error) { return nil, errors.New("not written yet") }
