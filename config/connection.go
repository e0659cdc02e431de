package config

import (
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
)

// decodeDSN checks that a connection string can be understood. It is not
// repeated in the message, nor is the parser's, which may quote parts of it.
func decodeDSN(v value) Secret {
	text := v.Text()
	if text == "" {
		return ""
	}
	if _, err := pgconn.ParseConfig(text); err != nil {
		v.Errorf("write postgres://user:password@host:5432/database, with %40 for an @ in the password, or host=... dbname=... user=...",
			"this is not a PostgreSQL connection string")
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
	switch {
	case err != nil:
		v.Errorf(hint, "this is not the URL of a Redis")
		return ""
	case strings.Contains(u.Scheme, "sentinel"):
		v.Errorf("write queue.sentinel: {master: mymaster, addresses: [host:26379]} instead of redis", "Redis Sentinel has a key of its own")
		return ""
	case strings.Contains(u.Scheme, "cluster") || strings.Contains(u.Host, ","):
		v.Errorf("write queue.cluster: {addresses: [host:6379]} instead of redis", "Redis Cluster has a key of its own")
		return ""
	case u.Scheme != "redis" && u.Scheme != "rediss" || u.Hostname() == "":
		v.Errorf(hint, "this is not the URL of a Redis")
		return ""
	}
	if _, err := redis.ParseURL(text); err != nil {
		v.Errorf(hint, "this is not the URL of a Redis: its database must be a number and its parameters known")
	}
	return Secret(text)
}
