#!/usr/bin/env bash
# Connection URIs that pgx 5.10 understood mean something else to pgx 5.11 and 5.12, without an error.
#
# Version   pgx 5.10.0 and 5.12.0 (October 2026), Go 1.26.8.
# Expected  A URI made with Go's own net/url, or an unescaped @ in a password, means the same to both; or the new one refuses it.
# Behaviour The new parser follows libpq. What url.Values.Encode writes for a blank is a plus: options=-c+geqo%3Doff reaches the server with the
#           plus in it. The user ends at the first @, where it ended at the last: the rest of the password becomes the beginning of the host's
#           name, which DNS is then asked for. A # begins no fragment. All three parse without an error.
# Output    pgx 5.10.0
#           options: "-c geqo=off"
#           password with @: password "se@gredo", host "127.0.0.1"
#           name with #: application_name "a"
#           pgx 5.12.0
#           options: "-c+geqo=off"
#           password with @: password "se", host "gredo@127.0.0.1"
#           name with #: application_name "a#b"
#
# Needs: go. Fails if the behaviour changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >main.go <<'GO'
package main

import (
	"fmt"
	"net/url"
	"os"

	"github.com/jackc/pgx/v5/pgconn"
)

func parse(uri string) *pgconn.Config {
	config, err := pgconn.ParseConfig(uri)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return config
}

func main() {
	query := url.Values{"options": {"-c geqo=off"}}
	fmt.Printf("options: %q\n", parse("postgres://ana@127.0.0.1/a?"+query.Encode()).RuntimeParams["options"])
	config := parse("postgres://ana:se@gredo@127.0.0.1/a")
	fmt.Printf("password with @: password %q, host %q\n", config.Password, config.Host)
	fmt.Printf("name with #: application_name %q\n", parse("postgres://ana@127.0.0.1/a?application_name=a#b").RuntimeParams["application_name"])
}
GO
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-mod=mod
out=$(for version in 5.10.0 5.12.0; do
	printf 'module try\n\ngo 1.26\n' >go.mod
	rm -f go.sum
	go get "github.com/jackc/pgx/v5@v$version" 2>/dev/null
	echo "pgx $version"
	go run . 2>/dev/null
done)
echo "$out"
diff <(echo "$out") - <<'OUT'
pgx 5.10.0
options: "-c geqo=off"
password with @: password "se@gredo", host "127.0.0.1"
name with #: application_name "a"
pgx 5.12.0
options: "-c+geqo=off"
password with @: password "se", host "gredo@127.0.0.1"
name with #: application_name "a#b"
OUT
