package cdc

import (
	"context"
	"fmt"
	"maps"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// connectTimeout bounds one attempt to connect, unless the DSN has a shorter one.
const connectTimeout = 15 * time.Second

// Connect opens an ordinary connection to the source, as gancho and speaking
// UTF-8 whatever the database's own encoding. The caller closes it. What is written
// without a schema is found along DatabasePath; the session's own search_path has
// PostgreSQL's schema alone.
func Connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	return connect(ctx, dsn, catalogSettings())
}

// connect is Connect, with settings in place of those of sessionSettings.
func connect(ctx context.Context, dsn string, other map[string]string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read source.dsn: %w", ErrDSN)
	}
	prepareConfig(&config.Config)
	all := sessionSettings()
	maps.Copy(all, other)
	for name := range config.RuntimeParams { // what the DSN says wins
		delete(all, name)
	}
	pin(&config.Config, all, other)
	settings := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if err := leavePath(ctx, conn); err != nil {
			return err
		}
		return settings(ctx, conn)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	return conn, Redacted(err)
}

// ConnectLikeStream is Connect, with a session for the SQL of rules: values print as
// they do in the stream, with an encoding the caller converts them, and what it
// sends; names resolve along the path, and nothing is written or hidden. The
// settings are added to that, unless the DSN has them. Where a pooler may give every
// transaction another session, each is the statement that makes these settings
// for one transaction, and has to be the first in every one; else it is "".
func ConnectLikeStream(ctx context.Context, dsn string, encoding Encoding, path string, settings map[string]string) (conn *pgx.Conn, each string, err error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, "", fmt.Errorf("read source.lookup_dsn: %w", ErrDSN)
	}
	prepareConfig(&config.Config)
	all := sessionSettings()
	maps.Copy(all, settings)
	for name, value := range config.RuntimeParams { // what the DSN says wins, except over roomSettings and valueSettings
		if name != "application_name" && name != "client_encoding" && name != "options" {
			all[name] = value
			delete(config.RuntimeParams, name)
		}
	}
	maps.Copy(all, roomSettings(path))
	maps.Copy(all, valueSettings())
	all["client_encoding"] = encoding.client()
	if conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return nil, "", Redacted(err)
	}
	shared, _, err := makeSettings(ctx, conn.PgConn(), all)
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, "", fmt.Errorf("prepare a session: %w", err)
	}
	if shared {
		each = settingsSQL(all, "true")
	}
	return conn, each, nil
}

// warned is the name under which a replication connection keeps the newest warning (*pgconn.PgError) that it got.
const warned = "warned"

// connectReplication opens a connection that speaks the replication protocol
// to the DSN's database, to stream from a slot for long or not. Poolers give such a connection a session of its own. What the server has
// said of itself is its [greetingOf].
func connectReplication(ctx context.Context, dsn string, encoding Encoding, streams bool) (*pgconn.PgConn, error) {
	parsed, err := pgx.ParseConfig(dsn) // it removes pgx's own parameters, which the server would refuse
	if err != nil {
		return nil, fmt.Errorf("read source.dsn: %w", ErrDSN)
	}
	config := &parsed.Config
	prepareConfig(config)
	config.RuntimeParams["replication"] = "database"
	all := sessionSettings()
	for _, s := range []map[string]string{stableSettings(), valueSettings()} {
		maps.Copy(all, s)
	}
	all["client_encoding"] = encoding.client()
	chosen := choosesTimeout(config)
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		return keepSettings(ctx, conn, all, &greeting{streams: streams, chosen: chosen})
	}
	config.OnNotice = func(conn *pgconn.PgConn, n *pgconn.Notice) { conn.CustomData()[warned] = (*pgconn.PgError)(n) }
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return newPacedConn(conn), nil
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	return conn, Redacted(err)
}

func prepareConfig(config *pgconn.Config) {
	// Without it the server speaks the database's encoding.
	config.RuntimeParams["client_encoding"] = "UTF8"
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "gancho"
	}
	if config.ConnectTimeout == 0 || config.ConnectTimeout > connectTimeout {
		config.ConnectTimeout = connectTimeout
	}
}

// PinSession fixes what the settings of a server, database or role could
// otherwise change in the meaning of our statements: the encoding, the time zone,
// the search_path (empty: our names are qualified), what could end or filter
// them, notices (warnings only; see young.go). settings are added to that. See
// session settings below for what happens behind a pooler.
func PinSession(config *pgconn.Config, settings ...map[string]string) {
	prepareConfig(config)
	all := sessionSettings()
	for _, s := range append([]map[string]string{stableSettings()}, settings...) {
		maps.Copy(all, s)
	}
	// The one setting of these that poolers keep for each of their clients.
	config.RuntimeParams["timezone"] = all["timezone"]
	if name, ok := all["application_name"]; ok {
		config.RuntimeParams["application_name"] = name
		delete(all, "application_name")
	}
	pin(config, all, nil)
}

// serverVersion returns the server's major and minor version as
// server_version_num has it: 150004 for 15.4.
func serverVersion(conn *pgx.Conn) int {
	var major, minor int
	// A development version reads "19devel": the minor number stays 0.
	_, _ = fmt.Sscanf(conn.PgConn().ParameterStatus("server_version"), "%d.%d", &major, &minor)
	return major*10000 + minor
}
