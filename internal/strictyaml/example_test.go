package strictyaml_test

import (
	"fmt"
	"time"

	"gancho/internal/strictyaml"
)

// One pass finds every mistake of a file.
func Example() {
	type server struct {
		listen  string
		timeout time.Duration
	}
	const file = `listen: 127.0.0.1:8620
timeuot: 30s
retries: 012
timeout: 90`
	var s server
	d := strictyaml.Parse("server.yaml", []byte(file), nil)
	d.Root().Map(
		strictyaml.Required("listen", func(v strictyaml.Value) { s.listen = v.Text() }),
		strictyaml.Optional("timeout", func(v strictyaml.Value) { s.timeout = v.Duration(time.Second, time.Minute) }),
		strictyaml.Optional("retries", func(v strictyaml.Value) { v.Int(0, 20) }),
	)
	if err := d.Errors().Err(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.listen, s.timeout)
	// Output:
	// server.yaml:2:1: unknown key "timeuot"; did you mean "timeout"?
	// server.yaml:3:10: the number 012 has leading zeros, which YAML reads as octal; write 12
	// server.yaml:4:10: "90" is not a duration; write a number with its unit, such as 500ms, 30s, 10m, 2h or 1d
}
