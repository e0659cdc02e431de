package cdc

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	applicationName = "gancho"
	// connectTimeout bounds one attempt to connect, unless the DSN has its own.
	connectTimeout = 15 * time.Second
)

// Connect opens an ordinary connection to the source, as gancho and speaking UTF-8
// whatever the database's own encoding. The caller closes it.
func Connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read source.dsn: %w", err)
	}
	prepareConfig(&config.Config)
	return pgx.ConnectConfig(ctx, config)
}

// connectReplication opens a connection that speaks the replication protocol
// to the DSN's database. Its settings are sent at the start of the session, so
// that they win over what ALTER DATABASE, ALTER ROLE and the server set.
func connectReplication(ctx context.Context, dsn string) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read source.dsn: %w", err)
	}
	prepareConfig(config)
	for name, value := range sessionSettings() {
		config.RuntimeParams[name] = value
	}
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
		config.RuntimeParams["application_name"] = applicationName
	}
	if config.ConnectTimeout == 0 || config.ConnectTimeout > connectTimeout {
		config.ConnectTimeout = connectTimeout
	}
}

// sessionSettings are all settings that can reach the text of a value, and
// those that could end a session that streams for months.
func sessionSettings() map[string]string {
	return map[string]string{
		"replication":        "database",
		"client_encoding":    "UTF8",
		"datestyle":          "ISO",
		"intervalstyle":      "postgres",
		"extra_float_digits": "3",
		"timezone":           "UTC",
		"bytea_output":       "hex",
		// money prints with the symbol, separators and digits of its locale.
		"lc_monetary": "C",
		// Values of regclass, regtype and regproc print with what search_path
		// cannot see qualified, and quoted by taste.
		"search_path":                         "",
		"quote_all_identifiers":               "off",
		"client_min_messages":                 "warning", // see young.go
		"statement_timeout":                   "0",
		"lock_timeout":                        "0",
		"idle_session_timeout":                "0",
		"idle_in_transaction_session_timeout": "0",
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
