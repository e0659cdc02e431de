package migrations_test

import (
	"fmt"
	"strings"

	"gancho/migrations"
)

func ExampleLegacy() {
	schema, _, identity := migrations.Legacy()
	fmt.Println(strings.Count(schema, "CREATE TABLE clientes"), strings.Contains(identity, "REPLICA IDENTITY FULL"))
	// Output: 1 true
}
