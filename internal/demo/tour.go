package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/endpoint"
	"gancho/internal/presets"
	"gancho/internal/receiver"
)

// tourRunes is how much of a statement or a payload a line of the tour shows.
const tourRunes = 112

// Tour plays each event of the presets once, on the legacy database with the
// rules of all presets, and prints a table: the event, the SQL that caused it,
// the webhook that arrived. Of Options it uses Out, Color, Patience and Bridge.
// The error says what did not start, or which webhooks did not come.
func Tour(ctx context.Context, o Options) error {
	s := newScreen(o.Out, o.Color)
	defer s.close()
	scenes, err := Scenes()
	if err != nil {
		return err
	}
	st, err := openStage(ctx, s, "") // the rows' ids are those of the scenes
	if st == nil || err != nil {
		return err
	}
	t := &tour{options: o, screen: s, stage: st, arrivals: make(chan arrival, 64)}
	err = t.run(ctx, scenes)
	if err = errors.Join(err, st.Close()); err != nil || ctx.Err() != nil {
		return err
	}
	if len(t.missing) > 0 {
		return fmt.Errorf("%d of %d events did not arrive: %s", len(t.missing), t.played, strings.Join(t.missing, ", "))
	}
	s.say("all %d events arrived, each signed", t.played)
	return nil
}

// tour is one that is being played.
type tour struct {
	options  Options
	screen   *screen
	stage    *stage
	arrivals chan arrival
	played   int
	missing  []string
}

// tourSettings are the rules of all presets and one endpoint that gets every
// webhook in commit order.
func tourSettings() (settings, error) {
	c := settings{
		rules: map[string][]byte{}, deny: []string{"clientes.rg", "clientes.foto", "clientes.biometria", "transacoes_cartao.autorizacao"},
		subscribers: []subscriber{{Name: "visita", Events: "*", Order: "endpoint", Secret: endpoint.GenerateSecret()}},
	}
	for _, name := range presets.Names() {
		files, err := presets.Files(name)
		if err != nil {
			return c, err
		}
		for file, text := range files {
			c.rules[file] = text
		}
	}
	return c, nil
}

// run starts the receiver and the bridge, plays the scenes, and ends both.
func (t *tour) run(ctx context.Context, scenes []Scene) error {
	c, err := tourSettings()
	if err != nil {
		return err
	}
	over, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	rc, err := newReceivers(c.subscribers, func(a *arrival) {
		select {
		case t.arrivals <- *a:
		case <-over.Done(): // nobody reads any more
		}
	})
	if err != nil {
		return err
	}
	return t.stage.withBridge(ctx, t.options.Bridge, c, rc, func(b *bridge, _ *bridgeView) error {
		defer end() // before the bridge is stopped, which waits for the receivers' answers
		conn, err := t.stage.connect(ctx)
		if err != nil {
			return err
		}
		err = t.play(b.whileRuns(ctx), conn, scenes)
		if ctx.Err() != nil || b.hasEnded() {
			err = nil
		}
		return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	})
}

// play plays each scene up to the webhook of its last event.
func (t *tour) play(ctx context.Context, conn *pgx.Conn, scenes []Scene) error {
	t.screen.say("the tour begins: the event, the SQL that causes it, the webhook that arrives")
	vendor := ""
	for _, s := range scenes {
		if s.Vendor != vendor {
			vendor = s.Vendor
			t.screen.line("\n" + t.screen.paint("1", vendor))
		}
		if err := t.scene(ctx, conn, s); err != nil {
			return fmt.Errorf("play scene %d: %w", s.Number, err)
		}
	}
	return nil
}

// scene shows the first step that causes each of the scene's events, and runs
// what lies before it without a word.
func (t *tour) scene(ctx context.Context, conn *pgx.Conn, s Scene) error {
	shown := map[string]bool{}
	for _, step := range s.Steps {
		var err error
		switch {
		case len(shown) == len(s.Events) || step.Kind == Silent:
		case step.Kind == When && !shown[step.Event]:
			shown[step.Event] = true
			err = t.cause(ctx, conn, s, step)
		default:
			err = execute(ctx, conn, step.SQL)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cause runs the step's statements and prints them with their webhook.
func (t *tour) cause(ctx context.Context, conn *pgx.Conn, s Scene, step Step) error {
	t.played++
	var before string // in the form of arrival.commit
	if err := conn.QueryRow(ctx, "select lpad(to_hex((pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint), 16, '0')").Scan(&before); err != nil {
		return err
	}
	if err := execute(ctx, conn, step.SQL); err != nil {
		return err
	}
	t.screen.line(fmt.Sprintf("%3d  %s  %s", s.Number, t.screen.paint("36", fmt.Sprintf("%-27s", step.Event)), s.Title))
	t.screen.line("       " + receiver.Clip(oneLine(step.SQL), tourRunes))
	patience := time.NewTimer(cmp.Or(t.options.Patience, defaultPatience))
	defer patience.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-patience.C:
			t.missing = append(t.missing, step.Event)
			t.screen.line("       " + t.screen.paint("31", "nothing arrived"))
			return nil
		case a := <-t.arrivals:
			if a.Type != step.Event || a.commit() < before {
				continue // of another rule, or of rows that the scene needs
			}
			if a.Verified != nil {
				return fmt.Errorf("verify %s: %w", a.Type, a.Verified)
			}
			t.screen.line(fmt.Sprintf("       %s %s %s", t.screen.paint("32", "→ "+receiver.Short(a.CommitToArrival)), t.screen.paint("2", "empresa "+a.Tenant), receiver.Clip(string(a.Data), tourRunes-20)))
			return nil
		}
	}
}

// oneLine are statements in one line, without what only makes them a transaction.
func oneLine(statements []string) string {
	shown := slices.DeleteFunc(slices.Clone(statements), func(s string) bool { return s == "begin" || s == "commit" })
	return strings.Join(strings.Fields(strings.Join(shown, "; ")), " ")
}

// commit is the commit LSN, in hexadecimal of fixed width.
func (a *arrival) commit() string {
	if parts := strings.Split(a.Sequence, "-"); len(parts) > 1 {
		return parts[1]
	}
	return ""
}

func execute(ctx context.Context, conn *pgx.Conn, statements []string) error {
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
