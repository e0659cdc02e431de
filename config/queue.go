package config

import (
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"gancho/internal/strictyaml"
)

// maxDatabase is Redis's own bound, far above its default of 16.
const maxDatabase = 1<<31 - 1

func (q *Queue) decode(v value) {
	var ways []string
	way := func(name string, decode func(value)) strictyaml.Field {
		return strictyaml.Optional(name, func(v value) {
			ways = append(ways, name)
			decode(v)
		})
	}
	v.Map(
		way("redis", func(v value) { q.Redis = decodeRedis(v) }),
		way("sentinel", func(v value) {
			q.Sentinel = &Sentinel{}
			q.Sentinel.decode(v)
		}),
		way("cluster", func(v value) {
			q.Cluster = &Cluster{}
			q.Cluster.decode(v)
		}),
		strictyaml.Optional("prefix", func(v value) { q.Prefix = decodePrefix(v) }),
		strictyaml.Optional("allow_volatile", func(v value) { q.AllowVolatile = v.Bool() }),
		strictyaml.Optional("max_memory_percent", func(v value) { q.MaxMemoryPercent = v.Int(20, 100) }),
		strictyaml.Optional("keep_parked", func(v value) { q.KeepParked = keepFailed(v) }),
	)
	switch {
	case !v.IsMap():
	case len(ways) == 0:
		v.Errorf("write such as redis: redis://:password@host:6379/0; or sentinel or cluster instead", `the key "redis" is missing`)
	case len(ways) > 1:
		v.Errorf("keep the one that says where the queue is", `"%s" are given, and a queue is in one place only`, strings.Join(ways, `" and "`))
	}
}

// prefix is what begins keys: without what would end it or its hash tag, and what SCAN takes as a pattern.
var prefix = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,60}$`)

func decodePrefix(v value) string {
	text := v.Text()
	if text != "" && !prefix.MatchString(text) {
		v.Errorf("use up to 60 letters, digits, _, . and -, such as gancho_centro", "%q cannot begin the names of Redis keys", text)
	}
	return text
}

func (s *Sentinel) decode(v value) {
	v.Map(
		strictyaml.Required("master", func(v value) { s.Master = v.Text() }),
		strictyaml.Required("addresses", func(v value) { s.Addresses = decodeAddresses(v, "26379") }),
		strictyaml.Optional("user", func(v value) { s.User = v.Text() }),
		strictyaml.Optional("password", func(v value) { s.Password = Secret(v.Text()) }),
		strictyaml.Optional("sentinel_user", func(v value) { s.SentinelUser = v.Text() }),
		strictyaml.Optional("sentinel_password", func(v value) { s.SentinelPassword = Secret(v.Text()) }),
		strictyaml.Optional("db", func(v value) { s.DB = v.Int(0, maxDatabase) }),
		strictyaml.Optional("tls", func(v value) { s.TLS = v.Bool() }),
	)
	userWithoutPassword(v, s.User, s.Password, "user", "password")
	userWithoutPassword(v, s.SentinelUser, s.SentinelPassword, "sentinel_user", "sentinel_password")
}

func (c *Cluster) decode(v value) {
	v.Map(
		strictyaml.Required("addresses", func(v value) { c.Addresses = decodeAddresses(v, "6379") }),
		strictyaml.Optional("user", func(v value) { c.User = v.Text() }),
		strictyaml.Optional("password", func(v value) { c.Password = Secret(v.Text()) }),
		strictyaml.Optional("tls", func(v value) { c.TLS = v.Bool() }),
		strictyaml.Refused("db", "a Redis Cluster has one database only", "remove it"),
	)
	userWithoutPassword(v, c.User, c.Password, "user", "password")
}

func userWithoutPassword(v value, user string, password Secret, userKey, passwordKey string) {
	if user != "" && password == "" {
		v.Errorf("add "+passwordKey+", or remove "+userKey, "%q is given without %q", userKey, passwordKey)
	}
}

// decodeAddresses reads a list of host:port.
func decodeAddresses(v value, port string) []string {
	items := v.ListOrOne()
	if v.Valid() && len(items) == 0 {
		v.Errorf("write such as [redis1:"+port+", redis2:"+port+"]", "no address is given")
	}
	var out []string
	for _, item := range items {
		text := item.Text()
		if text == "" {
			continue
		}
		host, number, err := net.SplitHostPort(text)
		n, numberErr := strconv.ParseUint(number, 10, 16)
		if err != nil || numberErr != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@ ") {
			item.Errorf("write host:port, such as redis1:"+port, "this is not an address")
			continue
		}
		out = append(out, text)
	}
	return out
}

// decodeDSN checks that a connection string can be understood. It is not
// repeated in the message, nor is the parser's, which may quote parts of it.
func decodeDSN(v value) Secret {
	text := v.Text()
	if text == "" {
		return ""
	}
	const hint = "write postgres://user:password@host:5432/database, with %40 for an @ in the password, or host=... dbname=... user=..."
	c, err := pgconn.ParseConfig(text)
	switch {
	case err != nil:
		v.Errorf(hint, "this is not a PostgreSQL connection string")
	case strings.Contains(c.User+c.Database+c.Host, "="):
		v.Errorf("give each key of the connection string a value, or remove it; write such as password='' for an empty one", "a value of this connection string is missing: the next key stands in its place")
	case strings.ContainsAny(c.Host, "@#? "):
		v.Errorf(hint, "the host of this connection string has a character that no host has")
	}
	return Secret(text)
}

func decodeRedis(v value) Secret {
	text := v.Text()
	if text == "" {
		return ""
	}
	const hint = "write redis://:password@host:6379/0, or rediss:// for TLS"
	u, err := url.Parse(text)
	_, parseErr := redis.ParseURL(text)
	switch {
	case err != nil:
		v.Errorf(hint, "this is not the URL of a Redis")
	case strings.Contains(u.Scheme, "sentinel"):
		v.Errorf("write queue.sentinel: {master: mymaster, addresses: [host:26379]} instead of redis", "Redis Sentinel has a key of its own")
	case strings.Contains(u.Scheme, "cluster") || strings.Contains(u.Host, ","):
		v.Errorf("write queue.cluster: {addresses: [host:6379]} instead of redis", "Redis Cluster has a key of its own")
	case u.Scheme != "redis" && u.Scheme != "rediss" || u.Hostname() == "" || u.Fragment != "" || strings.ContainsAny(u.Hostname(), "@#? ="):
		v.Errorf(hint, "this is not the URL of a Redis")
	case parseErr != nil:
		v.Errorf(hint, "this is not the URL of a Redis: its database must be a number and its parameters known")
	}
	return Secret(text)
}
