package cdc_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// BenchmarkReader reads a slot with changes waiting, and lets pg_recvlogical
// write the same changes to /dev/null: the limit to compare with.
func BenchmarkReader(b *testing.B) {
	for _, load := range []struct {
		name    string
		fill    string
		changes int
	}{
		{"single-row", "do $$ begin for i in 1..100000 loop insert into clientes (empresa_id, nome, email) values (i % 10, 'Maria da Silva', 'maria@example.com'); commit; end loop; end $$", 100000},
		{"1000-row", "do $$ begin for i in 1..300 loop insert into clientes (empresa_id, nome, email) select n % 10, 'Maria da Silva', 'maria@example.com' from generate_series(1, 1000) n; commit; end loop; end $$", 300000},
	} {
		b.Run(load.name, func(b *testing.B) {
			dsn := pg.Database(b, "", `create table clientes (id serial primary key, empresa_id int not null, nome varchar(120), cpf_cnpj varchar(14), email varchar(120),
				dt_cadastro timestamp default localtimestamp, limite numeric(12,2) default 1000, situacao char(2) default 'AT')`)
			o := optionsFor(dsn)
			source := prepare(b, o, allOps("clientes"))
			conn := dial(b, dsn)
			do(b, conn, "set synchronous_commit = off", load.fill, "set synchronous_commit = on", "insert into clientes (empresa_id) values (0)")
			end := value[cdc.LSN](b, conn, "select pg_current_wal_lsn()")
			// By turns, so that both see the same machine.
			var limit, ours time.Duration
			for b.Loop() {
				slot := copySlot(b, conn, o.Slot)
				began := time.Now()
				recv := exec.Command(filepath.Join(pg.Bin(), "pg_recvlogical"), "-d", dsn, "--slot", slot, "--start", "--no-loop",
					"-o", "proto_version=1", "-o", "publication_names=gancho", "-o", "messages=true", "-f", "/dev/null", "--endpos", end.String())
				if out, err := recv.CombinedOutput(); err != nil {
					b.Fatalf("pg_recvlogical: %v\n%s", err, out)
				}
				limit += time.Since(began)
				dropSlot(b, conn, slot)

				o := o
				o.Slot = copySlot(b, conn, o.Slot)
				from := *source
				from.Identity.Slot = o.Slot
				c := &counter{until: load.changes + 1}
				began = time.Now()
				if err := cdc.NewReader(o, &from).Run(context.Background(), c); !errors.Is(err, errEnough) {
					b.Fatal(err)
				}
				ours += time.Since(began)
				dropSlot(b, conn, o.Slot)
			}
			changes := float64(load.changes+1) * float64(b.N)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(changes/ours.Seconds(), "changes/s")
			b.ReportMetric(changes/limit.Seconds(), "pg_recvlogical/s")
			b.ReportMetric(limit.Seconds()/ours.Seconds(), "ratio")
		})
	}
}

// BenchmarkLatency measures from the commit's return to the change's arrival,
// one change at a time.
func BenchmarkLatency(b *testing.B) {
	dsn := pg.Database(b, "", oneTable)
	rec := newRecorder()
	o := optionsFor(dsn)
	s := run(b, o, prepare(b, o, allOps("t")), rec)
	conn := dial(b, dsn)
	i := 0
	for b.Loop() {
		i++
		if _, err := conn.Exec(context.Background(), "insert into t values ($1)", i); err != nil {
			b.Fatal(err)
		}
		s.next()
	}
}

func copySlot(b *testing.B, conn *pgx.Conn, slot string) string {
	b.Helper()
	name := slot + "_copy"
	do(b, conn, fmt.Sprintf("select pg_copy_logical_replication_slot('%s', '%s')", slot, name))
	return name
}

func dropSlot(b *testing.B, conn *pgx.Conn, slot string) {
	b.Helper()
	eventually(b, "the slot to be free", func() bool {
		_, err := conn.Exec(context.Background(), "select pg_drop_replication_slot($1)", slot)
		return err == nil
	})
}

var errEnough = errors.New("enough")

// counter is a handler that does nothing but count.
type counter struct {
	changes, until, flushes int
	bytes                   int
}

func (c *counter) Begin(*cdc.Transaction) error { return nil }
func (c *counter) Change(change *cdc.Change) error {
	c.changes++
	for i := range change.New {
		c.bytes += len(change.New[i].Text)
	}
	return nil
}

func (c *counter) Commit(*cdc.Transaction) error {
	if c.changes >= c.until {
		return errEnough
	}
	return nil
}
func (c *counter) Keepalive(cdc.LSN) error { return nil }
func (c *counter) Flush() error            { c.flushes++; return nil }
func (c *counter) Reset() error            { return nil }
