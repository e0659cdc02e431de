package cdc_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"gancho/cdc"
	"gancho/internal/testservers"
)

// TestSynchronousStandby: no list of synchronous standbys makes the source's
// commits wait for us, from the start or after a reload, not even when we wait
// for such a commit ourselves; a real standby stays in its place. The role has the
// rights of docs/operations.md and no more, and cannot see sync_state.
func TestSynchronousStandby(t *testing.T) {
	t.Parallel()
	server, err := testservers.StartPostgres(testservers.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	dsn := server.Database(t, "", oneTable)
	admin := dial(t, dsn)
	do(t, admin, "set synchronous_commit = local") // its own commits wait for nobody
	standby(t, dsn)
	o := optionsFor(dsn)
	prepare(t, o, allOps("t"))
	do(t, admin, "create role gancho login replication", "grant connect on database "+value[string](t, admin, "select current_database()")+" to gancho",
		"grant usage on schema public to gancho")
	o.DSN = strings.Replace(dsn, "postgres://postgres@", "postgres://gancho@", 1)
	o.Create = false
	names := func(list string) {
		t.Helper()
		do(t, admin, "alter system set synchronous_standby_names = '"+list+"'", "select pg_reload_conf()")
		eventually(t, "the reload", func() bool {
			return value[string](t, dial(t, dsn), "show synchronous_standby_names") == list
		})
	}
	states := func() string {
		t.Helper()
		return value[string](t, admin, `select string_agg(application_name || ' ' || sync_state, ', ' order by application_name) from pg_stat_replication where state = 'streaming'`)
	}

	// Its own name, under which an earlier version of a DBA's list had it.
	names("FIRST 1 (gancho, standby1)")
	rec := newRecorder()
	waiting, done := make(chan struct{}, 1), make(chan struct{})
	rec.change = func(*cdc.Change) error { // as a lookup does
		select {
		case waiting <- struct{}{}:
		default: // it comes again
		}
		<-done
		return nil
	}
	s := run(t, o, prepare(t, o, allOps("t")), rec)
	release := sync.OnceFunc(func() { close(done) })
	t.Cleanup(release)
	eventually(t, "another name for the stream", func() bool { return states() == "gancho-stream async, standby1 sync" })

	// Every name, while it streams: the commit waits for us, and we for it.
	do(t, admin, "alter system set synchronous_standby_names = 'FIRST 2 (*)'", "select pg_reload_conf()")
	eventually(t, "the reload", func() bool { return strings.Contains(states(), "gancho-stream sync") })
	committed := make(chan error, 1)
	began := time.Now()
	go func() {
		conn, err := pgx.Connect(context.Background(), dsn)
		if err == nil {
			_, err = conn.Exec(context.Background(), "insert into t values (1, 'x')")
			_ = conn.Close(context.Background())
		}
		committed <- err
	}()
	await(t, waiting, "the change")
	eventually(t, "the end of the stream", func() bool {
		return !strings.Contains(states(), "gancho")
	})
	reason := func(list string) {
		t.Helper()
		eventually(t, "the reason", func() bool {
			synchronous := new(cdc.SynchronousError)
			return errors.As(s.reader.Waiting(), &synchronous) && synchronous.Names == list
		})
	}
	reason("FIRST 2 (*)") // while the handler is blocked
	eventually(t, "the log to have the reason", func() bool { return strings.Contains(s.log.String(), "commits of the source wait for gancho") })
	do(t, admin, "alter system set synchronous_standby_names = 'FIRST 1 (*)'", "select pg_reload_conf()") // one is left
	if err := await(t, committed, "the commit"); err != nil {
		t.Fatal(err)
	}
	t.Logf("a commit took %s", time.Since(began))
	release()
	reason("FIRST 1 (*)")
	var lacks *cdc.SetupError
	if _, err := cdc.Prepare(t.Context(), o, allOps("t")); !errors.As(err, &lacks) || !strings.Contains(err.Error(), "ANY 1 (standby1, standby2)") {
		t.Errorf("a start meanwhile: %v", err)
	}

	// It continues by itself.
	names("ANY 1 (standby1)")
	if tx := s.next(); len(tx.Changes) != 1 {
		t.Errorf("the change comes as %v", tx.Changes)
	}
	eventually(t, "the standby alone", func() bool { return states() == "gancho async, standby1 quorum" })
	names("")
}

// standby is a physical replica, as far as the server can tell.
func standby(t *testing.T, dsn string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := pgconn.Connect(ctx, dsn+"&replication=true&application_name=standby1")
	if err != nil {
		t.Fatal(err)
	}
	system, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pglogrepl.CreateReplicationSlot(ctx, conn, "standby1", "", pglogrepl.CreateReplicationSlotOptions{Temporary: true, Mode: pglogrepl.PhysicalReplication}); err != nil {
		t.Fatal(err)
	}
	if err := pglogrepl.StartReplication(ctx, conn, "standby1", system.XLogPos, pglogrepl.StartReplicationOptions{Mode: pglogrepl.PhysicalReplication}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		at := system.XLogPos
		for {
			if pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: at}) != nil {
				return
			}
			// It reports regularly, too: a reload releases commits at the next report.
			receiving, stop := context.WithTimeout(ctx, 100*time.Millisecond)
			message, err := conn.ReceiveMessage(receiving)
			stop()
			if err != nil && !(pgconn.Timeout(err) && ctx.Err() == nil) {
				return
			}
			if data, ok := message.(*pgproto3.CopyData); ok && data.Data[0] == pglogrepl.XLogDataByteID {
				if wal, err := pglogrepl.ParseXLogData(data.Data[1:]); err == nil {
					at = wal.WALStart + pglogrepl.LSN(len(wal.WALData))
				}
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = conn.Close(context.Background())
	})
}
