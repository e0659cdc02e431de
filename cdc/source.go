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
	// Known: the slot was read before. Prepare creates none in its place: a slot that is missing is a [*LostSlotError].
	Known bool
	// Temporary has the Reader create the slot for itself, temporary, so that the server
	// drops it when the connection ends, however that ends: see temporary.go. Prepare then
	// looks for no slot. Run does not connect again.
	Temporary bool
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
	// History is where the server left its former timelines.
	History History
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
	// Findings are the problems. Their statements, in the order of [Gather], solve those
	// that have any; Gancho runs them itself under Options.Create where Title does not say
	// otherwise.
	Findings []Finding
	// Missing are tables of which a publication that exists lacks changes: the
	// bridge runs, or has run, and does not capture these.
	Missing []Name
	// Lost is why the slot can no longer be read; nil: it can, or is missing.
	Lost *LostSlotError

	create bool // Options.Create was set, and the statements failed
	first  int  // findings of a source that no bridge has read yet, which the statements solve
}

// FirstStart reports whether nothing is wrong but that Gancho has never run
// here: all that the source lacks is what Options.Create creates.
func (e *SetupError) FirstStart() bool { return e.first == len(e.Findings) }

// Error implements error: all problems, then the statements.
func (e *SetupError) Error() string {
	var b strings.Builder
	b.WriteString("the source is not ready:")
	for _, f := range e.Findings {
		fix := f.FixBelow()
		if fix == below {
			fix = "" // the headline says it for all
		}
		b.WriteString("\n  - " + joinNonEmpty("; ", f.Title, f.Why, fix))
	}
	if script := e.Script(); script != "" {
		b.WriteString("\n" + strings.TrimSuffix(script, "\n"))
	}
	return b.String()
}

// Script is what to run in the source, with its heading; "": no statement helps.
func (e *SetupError) Script() string { return Instructions(Statements(e.Findings), e.create) }

func (e *SetupError) add(f Finding) *Finding {
	f.Severity, f.Where = SeverityProblem, "source"
	e.Findings = append(e.Findings, f)
	return &e.Findings[len(e.Findings)-1]
}

// addf adds a problem that a statement solves, unless it is empty.
func (e *SetupError) addf(id string, s Statement, format string, args ...any) *Finding {
	f := Finding{ID: id, Title: fmt.Sprintf(format, args...)}
	if s.SQL != "" {
		f.Statements = []Statement{s}
	}
	return e.add(f)
}

// addFirstf adds a problem that is none before the first start.
func (e *SetupError) addFirstf(id string, s Statement, format string, args ...any) *Finding {
	e.first++
	f := e.addf(id, s, format, args...)
	f.Severity = SeverityNote
	return f
}

// Prepare checks everything that reading needs: the server's settings and
// privileges, the tables, the publications and the slot. What is missing is
// created under Options.Create, else one [*SetupError] names all of it.
// A slot that another process reads is no error here; the reader waits for it.
func Prepare(ctx context.Context, o Options, needs []TableNeed) (*Source, error) {
	return prepare(ctx, o, needs, nil)
}

// Examine is Prepare without Options.Create, on the assumption that the statements have
// been run which were found before: what it proposes follows them.
func Examine(ctx context.Context, o Options, needs []TableNeed, before []Statement) (*Source, error) {
	o.Create = false
	return prepare(ctx, o, needs, before)
}

func prepare(ctx context.Context, o Options, needs []TableNeed, before []Statement) (*Source, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	conn, err := Connect(ctx, o.DSN)
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()

	p := preparation{Options: o, conn: conn, setup: &SetupError{create: o.Create}, source: &Source{}}
	if err := p.assume(ctx, before); err != nil {
		return nil, err
	}
	if err := p.checkServer(ctx); err != nil {
		return nil, err
	}
	if err := p.loadNeeds(ctx, needs); err != nil {
		return nil, err
	}
	if !o.Temporary {
		if err := p.findSlot(ctx); err != nil {
			return nil, err
		}
	}
	if err := p.publications(ctx, needs); err != nil {
		return nil, err
	}
	if p.newSlot {
		if err := p.createSlot(ctx); err != nil {
			return nil, err
		}
	}
	if len(p.setup.Findings) > 0 {
		return nil, p.resolve(ctx)
	}
	return p.source, nil
}

// resolve returns the error, with the roles that must run its statements.
func (p *preparation) resolve(ctx context.Context) error {
	if err := ResolveFindings(ctx, p.conn, p.Encoding, p.setup.Findings); err != nil {
		return err
	}
	return p.setup
}

// assume takes for granted that statements have been run.
func (p *preparation) assume(ctx context.Context, before []Statement) error {
	p.identities.keys = map[uint32][]string{}
	var tables []Name
	var changed []Statement // of the identities of these
	for _, s := range before {
		switch {
		case s.identity:
			tables, changed = append(tables, Name{s.needs[0].schema, s.needs[0].name}), append(changed, s)
		case s.step == stepOption && s.SQL == PublishGenerated(s.needs[0].name).SQL:
			p.stored = append(p.stored, s.needs[0].name)
		}
	}
	oids, err := relationOIDs(ctx, p.conn, p.Encoding, tables)
	if err != nil {
		return fmt.Errorf("find the tables whose identity will be another: %w", err)
	}
	for i, s := range changed {
		switch {
		case s.key != nil:
			p.identities.keys[oids[i]] = s.key
		case s.SQL == IdentityFull(tables[i]).SQL:
			p.identities.full = append(p.identities.full, oids[i])
		}
	}
	return nil
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
		p.setup.addf("server.version", Statement{}, "the server is PostgreSQL %d; gancho needs 14 or newer", s.Version/10000)
	}
	if misfit := p.Encoding.Misfit(s.Encoding); misfit != "" {
		p.setup.addf("server.encoding", Statement{}, "%s", misfit)
	}
	if s.WALLevel != "logical" {
		p.setup.addf("server.wal_level", AlterSystem("wal_level", "logical"), "wal_level is %s", s.WALLevel).Remedy = "and restart the server"
	}
	if len(p.setup.Findings) > 0 {
		return nil
	}
	conn, err := connectReplication(ctx, p.DSN, p.Encoding, false)
	switch SQLState(err) {
	case codeInsufficientPrivilege:
		p.addReplication(ctx, "role.replication", "the role may not replicate: "+serverMessage(err))
		return nil
	case codeTooManyConnections:
		p.setup.addf("server.senders", Statement{}, "no replication connection is free").Remedy = "raise max_wal_senders, or end one that is unused (see pg_stat_replication)"
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
	if p.source.History, err = readHistory(ctx, conn, system.Timeline); err != nil {
		// A promotion later on cannot be followed then, and is refused.
		p.Log.Warn().Err(err).Msg("the history of the source's timeline is not known")
	}
	err = standAside(ctx, conn)
	if synchronous, ok := errors.AsType[*SynchronousError](err); ok {
		p.setup.addf("server.synchronous", Statement{}, "%v", synchronous)
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

const managedReplication = "or on a managed service grant its replication role"

// addReplication adds the server's reason for which it refuses a reader of the WAL, with
// the statement that gives a role without it the attribute.
func (p *preparation) addReplication(ctx context.Context, id, title string) *Finding {
	statement := replicationStatement(ctx, p.conn)
	f := p.setup.addf(id, statement, "%s", title)
	if statement.SQL != "" {
		f.Remedy = managedReplication
	}
	return f
}

// replicationStatement gives the role of a connection the attribute for readers of the
// WAL; none for a role that has it: the server's reason stands alone.
func replicationStatement(ctx context.Context, q querier) Statement {
	rows, _ := q.Query(ctx, `select rolname::text from pg_catalog.pg_roles where rolname = session_user and not rolreplication and not rolsuper`)
	role, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	if err != nil {
		return Statement{}
	}
	return AlterRole(role, "REPLICATION")
}

// loadNeeds reads the tables and reports those that cannot be published at all.
func (p *preparation) loadNeeds(ctx context.Context, needs []TableNeed) error {
	names := make([]Name, len(needs))
	for i, need := range needs {
		names[i] = Name{need.Schema, need.Name}
	}
	tables, err := LoadTables(ctx, p.conn, p.Encoding, names)
	if err != nil {
		return err
	}
	p.source.Tables = make([]*Table, len(needs))
	for i, table := range tables {
		if table == nil {
			p.setup.addf("table.missing", Statement{}, "table %s does not exist", names[i]).Remedy = "correct the name in the rule"
			continue
		}
		if problem, statements, hint := table.Unpublishable(); problem != "" {
			p.setup.add(Finding{ID: "table.unpublishable", Title: problem, Statements: statements, Remedy: hint})
			continue
		}
		p.source.Tables[i] = table
	}
	return nil
}
