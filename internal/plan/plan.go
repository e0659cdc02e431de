package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// Options say where a plan is for.
type Options struct {
	Encoding    cdc.Encoding
	Publication string
}

// Plan is what is to be changed at the source, in an order in which it works.
type Plan struct {
	Database string `json:"database"`
	// Runner is the role that Apply runs statements as.
	Runner  string   `json:"runner"`
	Changes []Change `json:"changes"`
	Count

	options Options
	system  string
}

// Count is how many changes there are of each kind.
type Count struct {
	Add     int `json:"add"`
	Change  int `json:"change"`
	Destroy int `json:"destroy"`
}

// Change is one statement of a plan.
type Change struct {
	cdc.Statement
	Action cdc.Action `json:"action"`
	// Lock is the mode of the lock on Tables; "": none is locked.
	Lock   string   `json:"lock,omitempty"`
	Tables []string `json:"tables,omitempty"`
	Cost   string   `json:"cost"`
	// Warning is what it may break; "": nothing that is known.
	Warning string `json:"warning,omitempty"`
	// Blocked is why Apply does not run it; "": it does.
	Blocked string `json:"blocked,omitempty"`
}

// New makes a plan of statements that the checks of the source have found.
func New(ctx context.Context, conn *pgx.Conn, o Options, statements []cdc.Statement) (*Plan, error) {
	p := &Plan{options: o, Changes: []Change{}}
	var super bool
	err := conn.QueryRow(ctx, `
		select current_user::text, rolsuper, current_database()::text from pg_catalog.pg_roles where rolname = current_user`).Scan(&p.Runner, &super, &p.Database)
	if err != nil {
		return nil, fmt.Errorf("read the role that runs the plan: %w", err)
	}
	identity, err := cdc.LoadIdentity(ctx, conn)
	if err != nil {
		return nil, err
	}
	p.system = identity.SystemID
	if statements, err = cdc.ResolveOwners(ctx, conn, o.Encoding, statements); err != nil {
		return nil, err
	}
	for _, s := range cdc.Gather(statements) {
		c := Change{Statement: s, Action: s.Action(), Lock: s.Lock(), Cost: s.Cost(), Blocked: s.Manual()}
		for _, t := range s.Tables() {
			c.Tables = append(c.Tables, t.String())
		}
		if c.Blocked == "" && !super {
			if c.Blocked, err = blocked(ctx, conn, p.Runner, s.Who); err != nil {
				return nil, err
			}
		}
		p.add(c.Action)
		p.Changes = append(p.Changes, c)
	}
	return p, p.warn(ctx, conn)
}

// warn says where whole old rows may be too large for the server.
func (p *Plan) warn(ctx context.Context, conn *pgx.Conn) error {
	var tables []cdc.Name
	for i := range p.Changes {
		if c := &p.Changes[i]; c.WritesWholeRows() {
			tables = append(tables, c.Statement.Tables()...)
		}
	}
	if len(tables) == 0 {
		return nil
	}
	found, err := p.largeRows(ctx, conn, tables)
	if cdc.SQLState(err) == cdc.CodeLockNotAvailable {
		for i := range p.Changes {
			if c := &p.Changes[i]; c.WritesWholeRows() {
				c.Warning = "it is not known whether rows are too large for it: a table is locked, as by VACUUM FULL; plan again later"
			}
		}
		return nil
	}
	for _, l := range found {
		for i := range p.Changes {
			if c := &p.Changes[i]; c.WritesWholeRows() && slices.Contains(c.Tables, l.Table.String()) {
				c.Warning = fmt.Sprintf("its rows have %d MB of large values on average; with it the application's own UPDATE and DELETE of a row above 1 GB fail", l.Bytes/1e6)
			}
		}
	}
	return err
}

// largeRows waits for no lock for long: a plan is to be had while a table is rewritten.
func (p *Plan) largeRows(ctx context.Context, conn *pgx.Conn, tables []cdc.Name) ([]cdc.LargeRow, error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("read how large rows are: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it only reads
	if _, err := tx.Exec(ctx, "set local lock_timeout = '2s'"); err != nil {
		return nil, fmt.Errorf("bound the wait for locks: %w", err)
	}
	return cdc.LargeRows(ctx, tx, p.options.Encoding, tables)
}

func (c *Count) add(a cdc.Action) {
	switch a {
	case cdc.Add:
		c.Add++
	case cdc.Destroy:
		c.Destroy++
	case cdc.Alter:
		c.Change++
	}
}

// String is the last line of a plan.
func (c Count) String() string {
	if c == (Count{}) {
		return "No changes."
	}
	return fmt.Sprintf("Plan: %d to add, %d to change, %d to destroy.", c.Add, c.Change, c.Destroy)
}

// blocked says who must run a statement in place of the runner; "": the runner may.
func blocked(ctx context.Context, conn *pgx.Conn, runner string, who cdc.Who) (string, error) {
	may := false
	if who.Role != "" {
		err := conn.QueryRow(ctx, "select pg_catalog.pg_has_role(oid, 'USAGE') from pg_catalog.pg_roles where rolname = $1", who.Role).Scan(&may)
		if err != nil {
			return "", fmt.Errorf("read whether %s may act as %s: %w", runner, who.Role, err)
		}
	}
	if may {
		return "", nil
	}
	return fmt.Sprintf("%s may not run it, %s does", runner, who), nil
}

// Text is the plan for people. It ends with a line break.
func (p *Plan) Text() string {
	var b strings.Builder
	if len(p.Changes) > 0 {
		fmt.Fprintf(&b, "Database %s, as role %s:\n\n", p.Database, p.Runner)
	}
	for i := range p.Changes {
		p.Changes[i].write(&b)
	}
	return b.String() + p.String() + "\n"
}

var signs = map[cdc.Action]string{cdc.Add: "+", cdc.Alter: "~", cdc.Destroy: "-"}

func (c *Change) write(b *strings.Builder) {
	fmt.Fprintf(b, "%s %s\n", signs[c.Action], c.SQL)
	for _, line := range [][2]string{{"who", c.Who.String()}, {"why", c.Why}, {"lock", c.lock()}, {"cost", c.Cost}, {"warning", c.Warning}, {"undo", c.undo()}, {"not applied", c.Blocked}} {
		if line[1] != "" {
			fmt.Fprintf(b, "    %s: %s\n", line[0], line[1])
		}
	}
	b.WriteString("\n")
}

func (c *Change) undo() string {
	if c.Undo == "" {
		return "none"
	}
	return c.Undo
}

func (c *Change) lock() string {
	if c.Lock == "" {
		return "none on a table"
	}
	return c.Lock + " on " + strings.Join(c.Tables, ", ")
}

// Ticket is the plan as a change ticket: a file of SQL that says who runs what in which
// order, and how to go back. Equal plans have equal tickets.
func (p *Plan) Ticket() string {
	var b strings.Builder
	fmt.Fprintf(&b, "-- Change ticket: gancho on database %s\n-- %s\n", p.Database, p.String())
	if len(p.Changes) == 0 {
		return b.String()
	}
	b.WriteString("-- Run the steps one by one, in this order, outside of a transaction. A step that ends with\n-- \"canceling statement due to lock timeout\" has changed nothing: run it again.\n")
	for i := range p.Changes {
		c := &p.Changes[i]
		fmt.Fprintf(&b, "\n-- Step %d of %d, as %s\n-- lock: %s\n-- cost: %s\n", i+1, len(p.Changes), c.Who, c.lock(), c.Cost)
		if c.Warning != "" {
			fmt.Fprintf(&b, "-- warning: %s\n", c.Warning)
		}
		if c.Lock != "" && !c.concurrent() {
			b.WriteString("SET lock_timeout = '500ms';\n")
		} else {
			b.WriteString("RESET lock_timeout;\n")
		}
		b.WriteString(c.SQL + "\n")
	}
	b.WriteString("\n-- The way back, in this order:\n")
	for i, c := range slices.Backward(p.Changes) {
		if c.Undo != "" {
			fmt.Fprintf(&b, "-- step %d, as %s: %s\n", i+1, c.Who, c.Undo)
		}
	}
	return b.String()
}

// concurrent: the statement runs outside of a transaction.
func (c *Change) concurrent() bool { return strings.Contains(c.SQL, " CONCURRENTLY ") }
