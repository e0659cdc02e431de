package cdc_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
)

// TestStatementsOfVisit: a visit that finds nothing is one connection and four messages to its server: who it is, the settings, what they are with all else that
// is asked, and the look at the slot. One that streams has the start of the stream instead of the look.
func TestStatementsOfVisit(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	tap := newTap(t, pg.Port())
	o.DSN = strings.Replace(dsn, ":"+strconv.Itoa(pg.Port())+"/", ":"+strconv.Itoa(tap.port)+"/", 1)
	confirmed := source.ConfirmedFlush
	for _, c := range []struct {
		glance bool
		last   string
	}{{true, "set local statement_timeout"}, {false, "START_REPLICATION SLOT"}} {
		rec := newRecorder()
		rec.lazily = true
		if rec.confirm = false; c.glance {
			rec.glances = confirmed
		}
		s := run(t, o, source, rec)
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
		want := []string{"select s.name, pg_catalog.current_setting", "select (extract(epoch from pg_catalog.current_setting", "IDENTIFY_SYSTEM", c.last}
		got := tap.taken()
		for i := range min(len(got), len(want)) {
			if strings.HasPrefix(got[i], want[i]) {
				got[i] = want[i]
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("with a glance %t: -want +got\n%s", c.glance, diff)
		}
	}
}

// TestSenderTimeout: the server waits no longer for a sign of life of a stream than it takes to take its slot over, unless it has less patience itself or the DSN says
// how long; a connection that does not stream from the slot keeps the server's.
func TestSenderTimeout(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	for i, c := range []struct{ role, options, server, session string }{
		{"", "", "1m0s", "6s"},
		{"0", "", "2m30s", "6s"},
		{"6500ms", "", "6.5s", "6s"},
		{"2s", "", "2s", "2s"},
		{"1h", "", "1h0m0s", "6s"},
		{"2s", "-c wal_sender_timeout=20s", "20s", "20s"},
		{"", "-c application_name=x --wal-sender-timeout=1d", "24h0m0s", "24h0m0s"},
		{"", "-c WAL_Sender_Timeout=0", "2m30s", "2m30s"},
	} {
		role := "timeout_" + dsn[strings.LastIndex(dsn, "/")+1:strings.LastIndex(dsn, "?")] + "_" + strconv.Itoa(i)
		of := roleDSN(t, dsn, role, "replication")
		if c.role != "" {
			do(t, dial(t, dsn), "alter role "+role+" set wal_sender_timeout = '"+c.role+"'")
		}
		if c.options != "" {
			of += "&options=" + strings.ReplaceAll(url.QueryEscape(c.options), "+", "%20")
		}
		server, session, is, err := cdc.SenderTimeouts(t.Context(), of, true)
		if err != nil || server.String() != c.server || session.String() != c.session || is != session && c.session != "2m30s" {
			t.Errorf("%+v: %s, %s, the session has %s, %v", c, server, session, is, err)
		}
		if _, _, is, err := cdc.SenderTimeouts(t.Context(), of, false); err != nil || is != server && c.server != "2m30s" {
			t.Errorf("%+v: a connection that does not stream has %s, %v", c, is, err)
		}
	}
}

// TestGreetingWithoutStart: a role that may not ask when the server was started streams, and knows less.
func TestGreetingWithoutStart(t *testing.T) {
	t.Parallel()
	own := server(t, nil)
	dsn := own.Database(t, "", oneTable, "revoke execute on function pg_postmaster_start_time from public", "create role streams login replication")
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	o.DSN = strings.Replace(dsn, "://postgres@", "://streams@", 1)
	if o.DSN == dsn {
		t.Fatal(dsn)
	}
	s := run(t, o, source, newRecorder())
	insertEach(t, dial(t, dsn), 1, 1)
	if diff := cmp.Diff(insertions(1, 1), s.changes(1)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if at := s.reader.ServerStarted(); at != "" {
		t.Errorf("the server was started at %s", at)
	}
}

// tap passes connections on to a server, and notes the statements.
type tap struct {
	port int

	mu         sync.Mutex
	statements []string
}

func newTap(t *testing.T, target int) *tap {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{port: listener.Addr().(*net.TCPAddr).Port}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(target))
			if err != nil {
				_ = client.Close()
				return
			}
			running.Go(func() {
				_, _ = io.Copy(client, upstream)
				_ = client.Close()
			})
			running.Go(func() {
				p.pass(upstream, client)
				_ = upstream.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	return p
}

// pass passes on what a client sends: a start without a type, and then messages with one.
func (p *tap) pass(to io.Writer, from io.Reader) {
	for start := true; ; start = false {
		header := make([]byte, 5)
		if start {
			header = header[:4]
		}
		if _, err := io.ReadFull(from, header); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(header[len(header)-4:])-4)
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		if !start && header[0] == 'Q' {
			p.mu.Lock()
			p.statements = append(p.statements, strings.TrimRight(string(body), "\x00"))
			p.mu.Unlock()
		}
		if _, err := to.Write(append(header, body...)); err != nil {
			return
		}
	}
}

// taken returns the statements since it was called last.
func (p *tap) taken() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.statements
	p.statements = nil
	return all
}
