package main_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	main "gancho/cmd/gancho"
)

// The whole command, on files alone.
func ExampleMain() {
	dir, err := os.MkdirTemp("", "gancho-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for name, text := range map[string]string{
		"rules.yaml": "rules: [{event: pagamento.novo, table: pagamentos, on: insert, columns: [id, valor]}]",
		"gancho.yaml": `
source: {dsn: postgres://gancho@db/academia}
queue: {redis: redis://redis:6379/0}
rules: [rules.yaml]
endpoints: [{name: crm, url: https://crm.example.com/hooks, secret: whsec_dGVzdGUtc2VjcmV0by1kZS0zMi1ieXRlcy1nYW5jaG8=}]`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			fmt.Println(err)
			return
		}
	}
	var out strings.Builder
	code := main.Main(context.Background(), []string{"check", "--offline", "--config", filepath.Join(dir, "gancho.yaml")}, strings.NewReader(""), &out, os.Stderr)
	fmt.Print(strings.ReplaceAll(out.String(), dir+"/", ""), code)
	// Output:
	// gancho.yaml: rules for 1 table and 1 endpoint read; not checked against the source (--offline)
	// 0
}
