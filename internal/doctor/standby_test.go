package doctor_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/internal/doctor"
	"gancho/internal/testservers"
)

// A primary with a standby: what a promotion leaves of the slot, what the standby itself
// needs as a source, and then how long the slot lasts: while there is room, when the rest is
// written within the hour, beyond the bound, and when the server has given it up.
func TestStandbyAndForecast(t *testing.T) {
	t.Parallel()
	primary, err := testservers.StartPostgres(testservers.PostgresOptions{Settings: map[string]string{"max_slot_wal_keep_size": "'20GB'", "min_wal_size": "'32MB'"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(primary.Close)
	standby, err := primary.StartStandby(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.Close)
	version, err := primary.Version()
	if err != nil {
		t.Fatal(err)
	}
	admin, replica := connect(t, primary.DSN("postgres")), connect(t, standby.DSN("postgres"))
	exec(t, admin, "select pg_create_logical_replication_slot('s', 'pgoutput')", "create publication gancho")
	waitFor(t, "the standby's slot to be in use", func() (ok bool, err error) {
		err = admin.QueryRow(t.Context(), "select bool_or(active) from pg_replication_slots where slot_name = 'standby'").Scan(&ok)
		return ok, err
	})
	options := func(dsn string) doctor.Options {
		return doctor.Options{Source: cdc.Options{DSN: dsn, Slot: "s", Publication: "gancho"}, LagWarning: 1 << 40}
	}
	o := options(primary.DSN("postgres"))
	r := doctor.Run(t.Context(), o)
	want(t, &r, "server.standby", cdc.SeverityOK, "a primary with 1 physical standbys")
	want(t, &r, "server.max_slot_wal_keep_size", cdc.SeverityOK, "max_slot_wal_keep_size is 21.5 GB")
	if version < 17 {
		want(t, &r, "slot.failover", cdc.SeverityNote, "from 17 on", "gancho run --create --accept-source")
	} else {
		want(t, &r, "slot.failover", cdc.SeverityNote, "failover is off", "failover => true")
		exec(t, admin, "select pg_drop_replication_slot('s')", "select pg_create_logical_replication_slot('s', 'pgoutput', failover => true)")
		r = doctor.Run(t.Context(), o)
		want(t, &r, "slot.failover", cdc.SeverityOK, "failover is on")
	}

	at := options(standby.DSN("postgres"))
	r = doctor.Run(t.Context(), at)
	want(t, &r, "server.standby", cdc.SeverityNote, "the source is a standby, with hot_standby_feedback on")
	exec(t, replica, "alter system set hot_standby_feedback = off", "select pg_reload_conf()")
	waitFor(t, "the standby to read its settings", func() (ok bool, err error) {
		err = replica.QueryRow(t.Context(), "select not current_setting('hot_standby_feedback')::bool").Scan(&ok)
		return ok, err
	})
	r = doctor.Run(t.Context(), at)
	want(t, &r, "server.standby", cdc.SeverityWarning, "hot_standby_feedback is off", "ALTER SYSTEM SET hot_standby_feedback = 'on';")
	for _, f := range found(&r, "source.unread") {
		t.Errorf("at the standby: %s", f.Title)
	}
	standby.Close()

	bound := func(megabytes int) doctor.Report {
		exec(t, admin, fmt.Sprintf("alter system set max_slot_wal_keep_size = '%dMB'", megabytes), "select pg_reload_conf()")
		waitFor(t, "the server to read its settings", func() (ok bool, err error) {
			err = admin.QueryRow(t.Context(), "select current_setting('max_slot_wal_keep_size') = $1", fmt.Sprintf("%dMB", megabytes)).Scan(&ok)
			return ok, err
		})
		return doctor.Run(t.Context(), o)
	}
	segments := func(n int) {
		for range n {
			exec(t, admin, "select pg_logical_emit_message(false, 'x', repeat('x', 15000000))", "select pg_switch_wal()")
		}
	}
	segments(2)
	r = bound(math.MaxInt32)
	f := want(t, &r, "slot.forecast", cdc.SeverityOK, "of WAL a day", "until max_slot_wal_keep_size if the slot is not read from now on")
	var rate float64
	unit := ""
	if _, err := fmt.Sscanf(f.Title, "at %f %s of WAL", &rate, &unit); err != nil {
		t.Fatalf("%s: %v", f.Title, err)
	}
	// Some seven hours, and fewer than 24 even if the rate falls meanwhile.
	r = bound(int(rate * 0.3 * map[string]float64{"MB": 1, "GB": 1e3, "TB": 1e6}[unit]))
	want(t, &r, "slot.forecast", cdc.SeverityWarning, "hours until", "raise max_slot_wal_keep_size")
	r = bound(64)
	// The server's statistics are of a moment, which is said, and is no problem yet.
	want(t, &r, "slot.forecast", cdc.SeverityWarning, "of the last", "only, since", "seconds until max_slot_wal_keep_size", "raise max_slot_wal_keep_size")
	segments(5)
	r = doctor.Run(t.Context(), o)
	want(t, &r, "slot.forecast", cdc.SeverityProblem, "is lost at the next checkpoint", "ALTER SYSTEM SET max_slot_wal_keep_size = '-1';")
	exec(t, admin, "checkpoint")
	r = doctor.Run(t.Context(), o)
	want(t, &r, "slot.reader", cdc.SeveritySkipped, `slot "s" is lost`)
	if n := len(found(&r, "slot.forecast")); n > 0 {
		t.Errorf("a slot that is lost has %d forecasts", n)
	}
}

// waitFor asks until it is so.
func waitFor(t *testing.T, what string, ok func() (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		switch is, err := ok(); {
		case err != nil:
			t.Fatalf("%s: %v", what, err)
		case is:
			return
		case ctx.Err() != nil:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// A publication of another tool makes statements fail on tables that no rule is about: doctor
// names them, and does not say that none fails.
func TestPublicationsOfOthers(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table nossa (id int primary key)", "create table deles (id int)", "create table deles_2 (id int) partition by range (id)", "create table deles_3 partition of deles_2 default",
		"create publication gancho for table nossa", "create publication outra for table deles, deles_2")
	r := doctor.Run(t.Context(), options(t, dsn))
	f := want(t, &r, "application.others", cdc.SeverityWarning, "UPDATE and DELETE of public.deles, because publication outra publishes the table and it has no replica identity", "likewise 1 more tables", "REPLICA IDENTITY FULL")
	if f.Problem() || len(found(&r, "application.statements")) > 0 {
		t.Error(titles(&r))
	}
	exec(t, connect(t, dsn), "drop publication outra")
	r = doctor.Run(t.Context(), options(t, dsn))
	want(t, &r, "application.statements", cdc.SeverityOK)
}
