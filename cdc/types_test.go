package cdc_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// TestTypesWaitForNobody: a load that waits for another one, whose connection is
// dead, ends with its context.
func TestTypesWaitForNobody(t *testing.T) {
	t.Parallel()
	types, dead := cdc.NewTypes(""), deadConn{asked: make(chan struct{}), end: make(chan struct{})}
	first := make(chan error)
	go func() { first <- types.Load(context.Background(), dead, 1) }()
	<-dead.asked
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, load := range map[string]func() error{
		"Load":    func() error { return types.Load(ctx, nil, 1) },
		"Preload": func() error { return types.Preload(ctx, nil) },
	} {
		if err := load(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	close(dead.end)
	if err := <-first; !errors.Is(err, errDead) {
		t.Error(err)
	}
}

// TestNamesInNoEncoding: the error says what to do about a name that the server
// cannot send.
func TestNamesInNoEncoding(t *testing.T) {
	t.Parallel()
	conn, err := cdc.Connect(t.Context(), pg.Database(t, "template template0 encoding 'SQL_ASCII' locale 'C'",
		`do $$ begin execute format('create type estado as enum (%L)', E'N\xc3O'); execute format('create table t (id int primary key, %I int)', E'situa\xe7\xe3o'); end $$`))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for encoding, want := range map[cdc.Encoding]string{"": "source.encoding", cdc.Latin1: ""} {
		err := cdc.NewTypes(encoding).Preload(t.Context(), conn)
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: types: %v", encoding, err)
		}
		table, err := cdc.LoadTable(t.Context(), conn, encoding, "", "t")
		if (err != nil) != (want != "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "read table t")) {
			t.Errorf("%q: columns: %v", encoding, err)
		}
		if err == nil && table.Relation.Columns[1].Name != "situação" {
			t.Errorf("%q: column %q", encoding, table.Relation.Columns[1].Name)
		}
	}
}

var errDead = errors.New("the connection is dead")

// deadConn answers nothing until the end.
type deadConn struct{ asked, end chan struct{} }

func (c deadConn) Query(context.Context, string, ...any) (pgx.Rows, error) {
	close(c.asked)
	<-c.end
	return deadRows{}, errDead
}

type deadRows struct{ pgx.Rows }

func (deadRows) Close()     {}
func (deadRows) Next() bool { return false }
func (deadRows) Err() error { return errDead }
