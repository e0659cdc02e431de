package console_test

import (
	"fmt"
	"os"
	"testing"

	"gancho/internal/browser"
	"gancho/internal/testservers"
)

var (
	pg       *testservers.Postgres
	chromium *browser.Browser
)

func TestMain(m *testing.M) {
	b, err := browser.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	chromium = b
	code := testservers.Main(m, &pg)
	b.Close()
	os.Exit(code)
}
