package bridge_test

import (
	"os"
	"testing"

	"gancho/internal/testservers"
)

var pg *testservers.Postgres

func TestMain(m *testing.M) {
	if os.Getenv(fleetEnv) != "" { // it uses another's servers
		os.Exit(m.Run())
	}
	os.Exit(testservers.Main(m, &pg))
}
