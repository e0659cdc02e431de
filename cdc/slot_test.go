package cdc_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/internal/testservers"
)

// TestReplicationRefused: a role is told to get the attribute only if it lacks
// it; any other reason is the server's own.
func TestReplicationRefused(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable, "create publication gancho for table t", "create publication gancho_insert", "revoke execute on function pg_create_logical_replication_slot from public")
	conn := dial(t, dsn)
	for _, test := range []struct {
		role, attribute string
		want, not       []string
	}{
		{"sem_atributo", "", []string{"ALTER ROLE sem_atributo REPLICATION;"}, nil},
		{"com_atributo", "replication", []string{"permission denied for function pg_create_logical_replication_slot"}, []string{"ALTER ROLE"}},
	} {
		do(t, conn, "create role "+test.role+" login "+test.attribute)
		t.Cleanup(func() { do(t, dial(t, pg.DSN("postgres")), "drop role "+test.role) })
		o := optionsFor(strings.Replace(dsn, "postgres://postgres@", "postgres://"+test.role+"@", 1))
		_, err := cdc.Prepare(t.Context(), o, nil)
		var lacks *cdc.SetupError
		if !errors.As(err, &lacks) {
			t.Fatalf("%s: %v", test.role, err)
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in %v", test.role, want, err)
			}
		}
		for _, not := range test.not {
			if strings.Contains(err.Error(), not) {
				t.Errorf("%s: %q in %v", test.role, not, err)
			}
		}
	}
}

// TestIdleSlotIsInvalidated (PostgreSQL 18): the reason is the one that the server has.
func TestIdleSlotIsInvalidated(t *testing.T) {
	t.Parallel()
	if !value[bool](t, dial(t, pg.DSN("postgres")), "select current_setting('idle_replication_slot_timeout', true) is not null") {
		t.Skip("this server invalidates no idle slots")
	}
	server, err := testservers.StartPostgres(testservers.PostgresOptions{Settings: map[string]string{"idle_replication_slot_timeout": "'1s'"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	dsn := server.Database(t, "", oneTable)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	conn := dial(t, dsn)
	eventually(t, "the slot to be invalidated", func() bool {
		do(t, conn, "checkpoint")
		return value[bool](t, conn, "select invalidation_reason is not null from pg_replication_slots where slot_name = $1", o.Slot)
	})
	_, prepared := cdc.Prepare(t.Context(), o, allOps("t"))
	read := cdc.NewReader(o, source).Run(context.Background(), onlooker())
	for what, err := range map[string]error{"prepare": prepared, "read": read} {
		if err == nil || !strings.Contains(err.Error(), "idle_replication_slot_timeout") || strings.Contains(err.Error(), "max_slot_wal_keep_size") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestLostSlots: each reason that a server of any version has is told apart, and a standby's copy
// of its primary's slot is not lost.
func TestLostSlots(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status, invalidation string
		conflicting, synced  bool
		reason, why          string
	}{
		{"reserved", "", false, false, "", ""},
		{"unreserved", "", false, false, "", ""},
		{"lost", "wal_removed", false, true, "", ""},
		{"lost", "", false, false, "wal_removed", "max_slot_wal_keep_size"},  // 14 to 16
		{"reserved", "", true, false, "conflict", "hot_standby_feedback"},    // 16
		{"lost", "wal_removed", false, false, "wal_removed", "max_slot_wal"}, // 17 and newer
		{"lost", "rows_removed", true, false, "rows_removed", "hot_standby_feedback"},
		{"lost", "wal_level_insufficient", true, false, "wal_level_insufficient", "wal_level was lowered"},
		{"lost", "idle_timeout", false, false, "idle_timeout", "idle_replication_slot_timeout"},
		{"lost", "novidade", false, false, "novidade", "invalidated it (novidade)"},
	} {
		lost := cdc.LostSlot(c.status, c.invalidation, c.conflicting, c.synced)
		switch {
		case lost == nil && c.reason == "":
		case lost == nil || lost.Reason != c.reason || !strings.Contains(lost.Why(), c.why) || !strings.Contains(lost.Error(), "gancho recover"):
			t.Errorf("%+v: %v", c, lost)
		}
	}
}

// TestWALRemovedByHand: the server says that it keeps the WAL, and has not.
func TestWALRemovedByHand(t *testing.T) {
	t.Parallel()
	dsn := server(t, nil).Database(t, "", oneTable)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	conn := dial(t, dsn)
	segment := value[string](t, conn, "select current_setting('data_directory') || '/pg_wal/' || pg_walfile_name(restart_lsn) from pg_replication_slots")
	do(t, conn, "insert into t values (1)", "select pg_switch_wal()", "insert into t values (2)")
	if err := os.Remove(segment); err != nil {
		t.Fatal(err)
	}
	err := cdc.NewReader(o, source).Run(t.Context(), onlooker())
	for _, part := range []string{"58P01", "can no longer be read", "gancho recover"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in the error: %v", part, err)
		}
	}
}
