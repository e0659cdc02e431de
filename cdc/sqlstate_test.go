package cdc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gancho/cdc"
)

func TestFaultOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err     error
		want    cdc.Fault
		passing bool
	}{
		{nil, cdc.FaultOther, false},
		{errors.New("ours"), cdc.FaultOther, false},
		{context.Canceled, cdc.FaultOther, false},
		{context.DeadlineExceeded, cdc.FaultTimeout, true},
		{os.ErrDeadlineExceeded, cdc.FaultTimeout, true},
		{io.EOF, cdc.FaultUnreachable, true},
		{io.ErrUnexpectedEOF, cdc.FaultUnreachable, true},
		{net.ErrClosed, cdc.FaultUnreachable, true},
		{pgconn.ErrConnClosed, cdc.FaultUnreachable, true},
		{&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, cdc.FaultUnreachable, true},
		{&tls.CertificateVerificationError{Err: errors.New("expired")}, cdc.FaultPermanent, false},
		{&pgconn.PgError{Code: "08P01", Message: "unsupported startup parameter: geqo"}, cdc.FaultPermanent, false}, // a pooler's
		{sqlstate("08P01"), cdc.FaultUnreachable, true},                                                             // protocol_violation, and a pooler's only code
		{&cdc.SettingError{Name: "timezone"}, cdc.FaultPermanent, false},
		{cdc.ErrDSN, cdc.FaultPermanent, false},
		{&cdc.SynchronousError{}, cdc.FaultOther, false},
		{sqlstate("08006"), cdc.FaultUnreachable, true}, // connection_failure
		{sqlstate("53300"), cdc.FaultUnreachable, true}, // too_many_connections
		{sqlstate("57P01"), cdc.FaultUnreachable, true}, // admin_shutdown
		{sqlstate("57P03"), cdc.FaultUnreachable, true}, // cannot_connect_now
		{sqlstate("57014"), cdc.FaultTimeout, true},     // query_canceled
		{sqlstate("40001"), cdc.FaultTransient, true},   // serialization_failure
		{sqlstate("40P01"), cdc.FaultTransient, true},   // deadlock_detected
		{sqlstate("25006"), cdc.FaultPermanent, false},  // read_only_sql_transaction
		{sqlstate("55P03"), cdc.FaultTransient, true},   // lock_not_available
		{sqlstate("55006"), cdc.FaultTransient, true},   // object_in_use
		{sqlstate("42501"), cdc.FaultDenied, false},     // insufficient_privilege
		{sqlstate("42P01"), cdc.FaultSchema, false},     // undefined_table
		{sqlstate("42703"), cdc.FaultSchema, false},     // undefined_column
		{sqlstate("42883"), cdc.FaultSchema, false},     // undefined_function
		{sqlstate("42704"), cdc.FaultSchema, false},     // undefined_object
		{sqlstate("3F000"), cdc.FaultSchema, false},     // invalid_schema_name
		{sqlstate("21000"), cdc.FaultValue, false},      // cardinality_violation
		{sqlstate("22012"), cdc.FaultValue, false},      // division_by_zero
		{sqlstate("23505"), cdc.FaultValue, false},      // unique_violation
		{sqlstate("P0001"), cdc.FaultValue, false},      // raise_exception
		{sqlstate("28P01"), cdc.FaultPermanent, false},  // invalid_password
		{sqlstate("3D000"), cdc.FaultPermanent, false},  // invalid_catalog_name
		{sqlstate("55000"), cdc.FaultPermanent, false},  // object_not_in_prerequisite_state
		{sqlstate("58P01"), cdc.FaultPermanent, false},  // undefined_file
		{sqlstate("XX000"), cdc.FaultPermanent, false},  // internal_error
		{sqlstate("odd"), cdc.FaultPermanent, false},    // what a pooler may invent
	} {
		for _, err := range []error{test.err, fmt.Errorf("read a table: %w", test.err)} {
			if got := cdc.FaultOf(err); got != test.want || got.Passing() != test.passing {
				t.Errorf("%v (SQLSTATE %q): fault %d, passing %v; want %d, %v", err, cdc.SQLState(err), got, got.Passing(), test.want, test.passing)
			}
		}
	}
}

func sqlstate(code string) error { return &pgconn.PgError{Code: code, Message: "refused"} }

// TestFaultsOfAServer: what a real server and a real network answer.
func TestFaultsOfAServer(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable, "create function fails() returns int language plpgsql as $$ begin raise 'no'; end $$")
	owner, other := dial(t, dsn), dial(t, dsn)
	name := value[string](t, owner, "select current_database()")
	do(t, owner, "create role limited_"+name+" login")
	t.Cleanup(func() { do(t, dial(t, dsn), "drop role limited_"+name) })
	limited := dial(t, strings.Replace(dsn, "postgres@", "limited_"+name+"@", 1))
	do(t, other, "create table locked ()", "begin", "lock table locked")
	for sql, want := range map[string]cdc.Fault{
		"select 1/0":            cdc.FaultValue,
		"select fails()":        cdc.FaultValue,
		"select * from no_such": cdc.FaultSchema,
		"select no_such from t": cdc.FaultSchema,
		"select no_such()":      cdc.FaultSchema,
		"select no_such.f()":    cdc.FaultSchema,
		"set statement_timeout = '1ms'; select pg_sleep(60)": cdc.FaultTimeout,
		"set lock_timeout = '1ms'; select from locked":       cdc.FaultTransient,
		"set transaction_read_only = on; create table x ()":  cdc.FaultPermanent,
		"select pg_drop_replication_slot('no_such')":         cdc.FaultSchema,
		"select pg_terminate_backend(pg_backend_pid())":      cdc.FaultUnreachable,
	} {
		conn := dial(t, dsn)
		_, err := conn.Exec(t.Context(), sql)
		if got := cdc.FaultOf(err); got != want {
			t.Errorf("%s: fault %d, want %d: %v", sql, got, want, err)
		}
		if want == cdc.FaultUnreachable {
			if _, err := conn.Exec(t.Context(), "select 1"); cdc.FaultOf(err) != cdc.FaultUnreachable {
				t.Errorf("a connection that was terminated: %v", err)
			}
		}
	}
	if _, err := limited.Exec(t.Context(), "create publication p for table t"); cdc.FaultOf(err) != cdc.FaultDenied {
		t.Errorf("a role without privileges: %v", err)
	}
	refused := func(what, dsn string, want cdc.Fault) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		conn, err := cdc.Connect(ctx, dsn)
		if err == nil {
			_ = conn.Close(ctx)
		}
		if got := cdc.FaultOf(err); got != want {
			t.Errorf("%s: fault %d, want %d: %v", what, got, want, err)
		}
	}
	config := owner.Config()
	refused("no such database", strings.Replace(dsn, name, "no_such", 1), cdc.FaultPermanent)
	refused("no such role", strings.Replace(dsn, "postgres@", "no_such@", 1), cdc.FaultPermanent)
	refused("nobody listens", "postgres://127.0.0.1:1/x", cdc.FaultUnreachable)
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	if _, err := pgx.ConnectConfig(ctx, config); cdc.FaultOf(err) != cdc.FaultUnreachable && cdc.FaultOf(err) != cdc.FaultTimeout {
		t.Errorf("the deadline is over: %v", err)
	}
}

// TestDSNIsNotQuoted: a connection string that cannot be parsed shows no part of itself.
func TestDSNIsNotQuoted(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{"postgres://ana:senha@host:porta/x", "host=h password=senha port", "senha"} {
		_, err := cdc.Connect(t.Context(), dsn)
		if !errors.Is(err, cdc.ErrDSN) || strings.Contains(err.Error(), "senha") {
			t.Errorf("%s: %v", dsn, err)
		}
	}
}

func ExampleFaultOf() {
	for _, err := range []error{
		fmt.Errorf("read clientes: %w", &pgconn.PgError{Code: "57P01", Message: "terminating connection due to administrator command"}),
		fmt.Errorf("read clientes: %w", &pgconn.PgError{Code: "42P01", Message: `relation "clientes" does not exist`}),
	} {
		fmt.Println(cdc.SQLState(err), "try again:", cdc.FaultOf(err).Passing(), "schema:", cdc.FaultOf(err) == cdc.FaultSchema)
	}
	// Output:
	// 57P01 try again: true schema: false
	// 42P01 try again: false schema: true
}

func ExampleParseName() {
	name, err := cdc.ParseName(`Vendas."TB_FORNECEDOR"`)
	fmt.Println(name.Schema, name.Name, name, err)
	// Output: vendas TB_FORNECEDOR vendas."TB_FORNECEDOR" <nil>
}
