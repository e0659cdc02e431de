package delivery_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	// A pool that could not connect tries once a second, and sees that it has
	// been closed only then.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// quiet drops what go-redis tells of connections that tests cut.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
