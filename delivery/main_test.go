package delivery_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(m)
}

// quiet drops what go-redis tells of connections that tests cut.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
