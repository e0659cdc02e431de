package config_test

import (
	"fmt"

	"gancho/config"
)

func ExampleParse() {
	const file = `
source: {dsn: "${DSN}"}
queue: {redis: "redis://127.0.0.1:6379/0", allow_volatil: true}
rules: [nowhere/*.yaml]
shutdown: 20`
	_, err := config.Parse("gancho.yaml", []byte(file), func(string) (string, bool) { return "", false })
	fmt.Println(err)
	// Output:
	// gancho.yaml:2:16: the environment variable DSN is not set; set it, or write ${DSN:-default}
	// gancho.yaml:3:44: unknown key "allow_volatil"; did you mean "allow_volatile"?
	// gancho.yaml:4:9: no rule file matches "nowhere/*.yaml"; file names are relative to this file
	// gancho.yaml:5:11: "20" is not a duration; write a number with its unit, such as 500ms, 30s, 10m, 2h or 1d
}
