package dispatch_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	// These tests wait for servers and for schedules more than they compute. Those
	// of failovers wait longest: their files come early, so that they start early.
	if err := flag.Set("test.parallel", "14"); err != nil {
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

// random is the same in every run, so that a failure can be repeated;
// GANCHO_TEST_SEED sets another.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(1)
	if text := os.Getenv("GANCHO_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("GANCHO_TEST_SEED: %v", err)
		}
	}
	t.Logf("GANCHO_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// quiet drops what go-redis logs of connections that tests cut.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
