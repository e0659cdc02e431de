package console_test

import (
	"os"
	"testing"

	"gancho/internal/testservers"
)

var pg *testservers.Postgres

func TestMain(m *testing.M) { os.Exit(testservers.Main(m, &pg)) }
