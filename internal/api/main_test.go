package api_test

import (
	"os"
	"testing"

	"gancho/internal/testservers"
)

// pg is the PostgreSQL server that all tests share.
var pg *testservers.Postgres

func TestMain(m *testing.M) { os.Exit(testservers.Main(m, &pg)) }
