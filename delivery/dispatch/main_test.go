package dispatch_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	// These tests wait for servers and for schedules more than they compute.
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	// A pool that could not connect tries once a second, and sees that it has
	// been closed only then.
	err := goleak.Find()
	for deadline := time.Now().Add(queuetest.Patience); err != nil && time.Now().Before(deadline); {
		err = goleak.Find()
	}
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// quiet drops what go-redis tells of connections that tests cut.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
