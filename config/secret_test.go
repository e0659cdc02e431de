package config_test

import (
	"fmt"
	"strings"
	"testing"

	"gancho/config"
	"gancho/internal/testservers"
)

// TestVariablesUnderAnyKey: a variable that stands under the wrong key may hold a
// secret; the mistake names the variable.
func TestVariablesUnderAnyKey(t *testing.T) {
	t.Parallel()
	const secret = `postgres://ana:S3NHA9 "x"@h/erp`
	env := func(string) (string, bool) { return secret, true }
	for _, place := range []string{
		"source: {dsn: a, slot: $}", "source: {dsn: a, publication: $}", "source: {dsn: a, timezone: $}", "source: {dsn: a, lag_warning: $}",
		"source: {dsn: a, on_schema_change: $}", "source: {dsn: a, encoding: $}", "http: {listen: $}", "http: {metrics: $}", "quotas: {tenant: {backlog: $}}", "quotas: {total: {backlog_bytes: $}}", "rules: [$]", "rules: $", "log: {level: $}", "shutdown: $",
		"mapping: {transaction_memory: $}", "state: {key: a, keep_log: $}",
		"endpoints: [{name: $}]", "endpoints: [{name: a, url: $}]", "endpoints: [{name: a, url: 'https://a', timeout: $}]",
		"endpoints: [{name: a, url: 'https://a', rate: $}]", "endpoints: [{name: a, url: 'https://a', tls: {ca: $}}]", "endpoints: [{name: a, url: 'https://a', events: [$]}]",
	} {
		_, err := config.Parse("gancho.yaml", []byte(strings.ReplaceAll(place, "$", "'${GANCHO_SOURCE_DSN}'")), env)
		if err == nil || strings.Contains(err.Error(), "S3NHA9") {
			t.Errorf("%s: %v", place, err)
		}
	}
}

// TestMistakesShowNoSecret: whatever is wrong with what holds a password, its
// mistake does not repeat it; with one more mistake at every place.
func TestMistakesShowNoSecret(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	const secret = "S3NHA9"
	const file = `
source: {dsn: %s, lookup_dsn: %s}
state: {dsn: %s, key: %s}
queue: {%s}
privacy: {secrets: {a: %s}}
rules: [%s]
endpoints: [{name: a, url: https://example.com, proxy: %s}]
`
	good := []string{
		"postgres://ana:x@h/erp", "postgres://ana:x@h/erp", "postgres://ana:x@h/erp", "chave", "redis: redis://:x@h:6379/0", "sal", "r.yaml",
		"http://ana:x@proxy:3128",
	}
	places := map[string]int{
		"postgres://ana:S3NHA9@h/erp": 0, "postgres://S3NHA9@h/erp": 1, `"host=h user= password=S3NHA9"`: 2, `"host=h password='S3NHA9 x"`: 0,
		"S3NHA9": 3, "redis: redis://:S3NHA9@h:6379/0": 4, "redis: redis://S3NHA9@h/x": 4, "redis: rediss://ana:S3NHA9@h:6379?db=x": 4,
		"sentinel: {master: m, addresses: [h:1], password: S3NHA9, sentinel_user: a}": 4, "cluster: {addresses: [h:1], password: S3NHA9, db: 1}": 4,
		"http://ana:S3NHA9@proxy:3128": 7, "http://S3NHA9@proxy": 7,
	}
	check := func(place int, text string) {
		t.Helper()
		values := make([]any, len(good))
		for i, g := range good {
			values[i] = g
		}
		values[place] = text
		_, err := config.Parse("gancho.yaml", fmt.Appendf(nil, file, values...), func(string) (string, bool) { return "", false })
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, place := range places {
		check(place, text)
		for i := range len(text) {
			if at := strings.Index(text, secret); i > at && i < at+len(secret) {
				continue
			}
			check(place, text[:i]+text[i+1:])
			for _, c := range "@:/?# ='\"{}[],\t" {
				check(place, text[:i]+string(c)+text[i:])
			}
		}
	}
}

// TestConnectionStrings: mistakes in one that the parser does not see.
func TestConnectionStrings(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"host=h user= password=x":                "the next key stands in its place",
		"host=h user=ana dbname= password=x":     "the next key stands in its place",
		"host=h@x user=ana":                      "a character that no host has",
		"postgres://ana%40servidor:x@h/erp":      "",
		"host=/var/run/postgresql user=ana":      "",
		"postgres://ana:x@[::1]:5432,h2:5432/db": "",
	} {
		_, err := config.Parse("gancho.yaml", fmt.Appendf(nil, "source: {dsn: %q}\nqueue: {redis: redis://h}\nrules: [r.yaml]\n", dsn), func(string) (string, bool) { return "", false })
		text := ""
		if err != nil {
			text = err.Error()
		}
		if want != "" && !strings.Contains(text, want) || want == "" && strings.Contains(text, "connection string") {
			t.Errorf("%s: %s", dsn, text)
		}
	}
}
