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
// UTF-8 whatever the database's own encoding. The caller closes it.
func Connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read source.dsn: %w", ErrDSN)
	}
	prepareConfig(&config.Config)
	return pgx.ConnectConfig(ctx, config)
}

// ConnectLikeStream is Connect, with a session in which values print as they do
// in the stream; with an encoding the caller converts them, and what it sends. The settings are sent after the start of the session: poolers
// refuse them before.
func ConnectLikeStream(ctx context.Context, dsn string, encoding Encoding) (*pgx.Conn, error) {
	conn, err := Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	settings := valueSettings()
	settings["client_encoding"] = encoding.client()
	_, err = conn.Exec(ctx, `select set_config(key, value, false) from jsonb_each_text($1)`, settings)
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("prepare a session: %w", err)
	}
	return conn, nil
}

// connectReplication opens a connection that speaks the replication protocol
// to the DSN's database. Its settings are sent at the start of the session, so
// that they win over what ALTER DATABASE, ALTER ROLE and the server set.
func connectReplication(ctx context.Context, dsn string, encoding Encoding) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read source.dsn: %w", ErrDSN)
	}
	prepareConfig(config)
	PinSession(config, valueSettings(), map[string]string{
		"replication":     "database",
		"client_encoding": encoding.client(),
		// What could end a session that streams for months.
		"statement_timeout":                   "0",
		"lock_timeout":                        "0",
		"idle_session_timeout":                "0",
		"idle_in_transaction_session_timeout": "0",
	})
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return newPacedConn(conn), nil
	}
	return pgconn.ConnectConfig(ctx, config)
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

// PinSession fixes, from the session's start on, what the settings of a server,
// database or role could otherwise change in the meaning of our statements: the
// encoding, the time zone, the search_path (empty: our names are qualified),
// notices (warnings only; see young.go). settings are added to that.
func PinSession(config *pgconn.Config, settings ...map[string]string) {
	prepareConfig(config)
	maps.Copy(config.RuntimeParams, map[string]string{"timezone": "UTC", "search_path": "", "client_min_messages": "warning"})
	for _, s := range settings {
		maps.Copy(config.RuntimeParams, s)
	}
}

// valueSettings are the settings that reach the text of a value.
func valueSettings() map[string]string {
	return map[string]string{
		"datestyle":          "ISO",
		"intervalstyle":      "postgres",
		"extra_float_digits": "3",
		"timezone":           "UTC",
		"bytea_output":       "hex",
		// money prints with the symbol, separators and digits of its locale.
		"lc_monetary": "C",
		// Values of regclass, regtype and regproc are quoted by taste; the stream's
		// are qualified, too, because its search_path is empty.
		"quote_all_identifiers": "off",
	}
}

// noTransactionTimeout is for servers that have the setting (17 and newer): the
// decoding of a large transaction is a transaction itself.
const noTransactionTimeout = `select set_config(name, '0', false) from pg_catalog.pg_settings where name = 'transaction_timeout'`

// serverVersion returns the server's major and minor version as
// server_version_num has it: 150004 for 15.4.
func serverVersion(conn *pgx.Conn) int {
	var major, minor int
	// A development version reads "19devel": the minor number stays 0.
	_, _ = fmt.Sscanf(conn.PgConn().ParameterStatus("server_version"), "%d.%d", &major, &minor)
	return major*10000 + minor
}
