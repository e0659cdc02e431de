package cdc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
)

// minVersion is the oldest server_version_num supported: 14 brought logical
// messages to pgoutput.
const minVersion = 140000

// Options say what to read.
type Options struct {
	// DSN is the source database's connection string. Its role needs
	// REPLICATION, and SELECT on nothing.
	DSN string
	// Slot is the logical replication slot's name.
	Slot string
	// Publication is the publication's name. Tables whose updates cannot be
	// published safely are in a second one, named by [InsertPublication].
	Publication string
	// Encoding is set where the server cannot convert the database's text to UTF-8.
	Encoding Encoding
	// Create lets Prepare create the slot and the publications, and add tables to
	// the publications. Nothing is ever dropped or otherwise altered.
	Create bool
	// Log gets reconnections, waits and warnings. The zero Logger writes nothing.
	Log zerolog.Logger
}

// InsertPublication is the name of the second publication: see [Options].
func InsertPublication(publication string) string { return publication + "_insert" }

func (o Options) insertPublication() string { return InsertPublication(o.Publication) }

// TableNeed is a table that rules watch, and the operations they watch.
type TableNeed struct {
	// Schema may be empty: the first in the search_path that has the table.
	Schema, Name                     string
	Insert, Update, Delete, Truncate bool
}

// Identity is what positions of a slot are comparable within.
type Identity struct {
	SystemID string // of the cluster, given by initdb
	Database string
	Slot     string
	Timeline int32 // rises with a failover or a recovery to a point in time
}

// String returns the identity for people.
func (i Identity) String() string {
	return fmt.Sprintf("system %s, timeline %d, database %s, slot %s", i.SystemID, i.Timeline, i.Database, i.Slot)
}

// Source is a database that is ready to be read.
type Source struct {
	Identity Identity
	Settings Settings
	// SlotCreated: Prepare created the slot, and positions start over.
	SlotCreated bool
	// ConfirmedFlush is the position the slot had been confirmed to.
	ConfirmedFlush LSN
	// Current is the end of the server's WAL. One that lies before what was
	// read earlier shows a server that was restored to an earlier time.
	Current LSN
	// Publications are those to subscribe to.
	Publications []string
	// Tables are the needs' tables, in their order.
	Tables []*Table
}

// SetupError says what the source lacks and the SQL that provides it.
type SetupError struct {
	// Problems are sentences, each with its remedy unless Statements has it.
	Problems []string
	// Statements are SQL, to be run in order. Gancho would run them itself
	// under Options.Create, except where Problems say otherwise.
	Statements []string
	// Missing are tables of which a publication that exists lacks changes: the
	// bridge runs, or has run, and does not capture these.
	Missing []Name
	// Lost is why the slot can no longer be read; nil: it can, or is missing.
	Lost *LostSlotError

	create bool // Options.Create was set, and the statements failed
	first  int  // problems of a source that no bridge has read yet, which the statements solve
}

// FirstStart reports whether nothing is wrong but that Gancho has never run
// here: all that the source lacks is what Options.Create creates.
func (e *SetupError) FirstStart() bool { return e.first == len(e.Problems) }

// Error implements error: all problems, then the statements.
func (e *SetupError) Error() string {
	text := "the source is not ready:\n  - " + strings.Join(e.Problems, "\n  - ")
	if len(e.Statements) == 0 {
		return text
	}
	text += "\nrun this in the source database"
	if !e.create {
		text += ", or start gancho with --create"
	}
	return text + ":\n  " + strings.Join(e.Statements, ";\n  ") + ";"
}

func (e *SetupError) addf(format string, args ...any) {
	e.Problems = append(e.Problems, fmt.Sprintf(format, args...))
}

// addFirstf adds a problem that is none before the first start.
func (e *SetupError) addFirstf(format string, args ...any) {
	e.addf(format, args...)
	e.first++
}

// Prepare checks everything that reading needs: the server's settings and
// privileges, the tables, the publications and the slot. What is missing is
// created under Options.Create, else one [*SetupError] names all of it.
// A slot that another process reads is no error here; the reader waits for it.
func Prepare(ctx context.Context, o Options, needs []TableNeed) (*Source, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	conn, err := Connect(ctx, o.DSN)
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()

	p := preparation{Options: o, conn: conn, setup: &SetupError{create: o.Create}, source: &Source{}}
	if err := p.checkServer(ctx); err != nil {
		return nil, err
	}
	if err := p.loadNeeds(ctx, needs); err != nil {
		return nil, err
	}
	if err := p.findSlot(ctx); err != nil {
		return nil, err
	}
	if err := p.publications(ctx, needs); err != nil {
		return nil, err
	}
	if p.newSlot {
		if err := p.createSlot(ctx); err != nil {
			return nil, err
		}
	}
	if len(p.setup.Problems) > 0 {
		return nil, p.setup
	}
	return p.source, nil
}

func (o Options) check() error {
	for _, c := range o.Slot {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return fmt.Errorf("slot name %q has the character %q; write lower-case letters, digits and underscores", o.Slot, c)
		}
	}
	if o.Slot == "" || len(o.Slot) > maxIdentifier {
		return fmt.Errorf("slot name %q has %d bytes; write 1 to %d", o.Slot, len(o.Slot), maxIdentifier)
	}
	if o.Publication == "" || len(o.insertPublication()) > maxIdentifier {
		return fmt.Errorf("publication name %q has %d bytes; write 1 to %d", o.Publication, len(o.Publication), maxIdentifier-len(InsertPublication("")))
	}
	return nil
}

// checkServer reads the server's settings and, unless they are in the way, asks
// it who it is on a replication connection, which also shows that the role may
// open one.
func (p *preparation) checkServer(ctx context.Context) (err error) {
	s := &p.source.Settings
	if *s, err = LoadSettings(ctx, p.conn); err != nil {
		return err
	}
	if s.Version < minVersion {
		p.setup.addf("the server is PostgreSQL %d; gancho needs 14 or newer", s.Version/10000)
	}
	if misfit := p.Encoding.Misfit(s.Encoding); misfit != "" {
		p.setup.addf("%s", misfit)
	}
	if s.WALLevel != "logical" {
		p.setup.addf("wal_level is %s; run ALTER SYSTEM SET wal_level = 'logical' and restart the server", s.WALLevel)
	}
	if len(p.setup.Problems) > 0 {
		return nil
	}
	conn, err := connectReplication(ctx, p.DSN, p.Encoding)
	switch SQLState(err) {
	case codeInsufficientPrivilege:
		p.setup.addf("the role may not replicate: %s%s", serverMessage(err), replicationRemedy(ctx, p.conn))
		return nil
	case codeTooManyConnections:
		p.setup.addf("no replication connection is free; raise max_wal_senders, or end one that is unused (see pg_stat_replication)")
		return nil
	}
	if err != nil {
		return fmt.Errorf("open a replication connection to the source: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	system, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return fmt.Errorf("identify the source: %w", err)
	}
	p.source.Identity, p.source.Current = identityOf(system, p.Slot), system.XLogPos
	err = standAside(ctx, conn)
	if synchronous, ok := errors.AsType[*SynchronousError](err); ok {
		p.setup.addf("%v", synchronous)
		return nil
	}
	return err
}

// LoadIdentity reads the system and the database of an ordinary connection, the
// parts of an identity that a physical replica shares. The system is "" for a
// role that may not know it: everyone may, unless somebody has revoked it. It
// leaves no prepared statements behind a pooler.
func LoadIdentity(ctx context.Context, conn *pgx.Conn) (Identity, error) {
	var i Identity
	var known bool
	err := conn.QueryRow(ctx, `select current_database()::text, pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'execute')`, pgx.QueryExecModeExec).Scan(&i.Database, &known)
	if err == nil && known {
		err = conn.QueryRow(ctx, `select system_identifier::text from pg_catalog.pg_control_system()`, pgx.QueryExecModeExec).Scan(&i.SystemID)
	}
	if err != nil {
		return i, fmt.Errorf("read the identity of the source: %w", err)
	}
	return i, nil
}

func identityOf(system pglogrepl.IdentifySystemResult, slot string) Identity {
	return Identity{SystemID: system.SystemID, Database: system.DBName, Slot: slot, Timeline: system.Timeline}
}

// replicationRemedy is what to add to the server's reason for which it refuses a
// reader of the WAL: "" for a role that has the attribute.
func replicationRemedy(ctx context.Context, q querier) string {
	rows, _ := q.Query(ctx, `select format('ALTER ROLE %I REPLICATION', rolname) from pg_catalog.pg_roles
		where rolname = session_user and not rolreplication and not rolsuper`)
	statement, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	if err != nil {
		return ""
	}
	return "; run " + statement + " (on a managed service grant its replication role)"
}

// loadNeeds reads the tables and reports those that cannot be published at all.
func (p *preparation) loadNeeds(ctx context.Context, needs []TableNeed) error {
	types := NewTypes(p.Encoding)
	p.source.Tables = make([]*Table, len(needs))
	for i, need := range needs {
		name := Name{need.Schema, need.Name}
		table, err := loadTable(ctx, p.conn, types, name)
		if errors.Is(err, ErrNoTable) {
			p.setup.addf("table %s does not exist; correct the name in the rule", name)
			continue
		}
		if err != nil {
			return err
		}
		if problem, hint := table.Unpublishable(); problem != "" {
			p.setup.addf("%s; %s", problem, hint)
			continue
		}
		p.source.Tables[i] = table
	}
	return nil
}
