package main_test

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gancho/internal/testservers"
)

const textRules = `rules:
  - event: cliente
    table: clientes
    on: [insert, update]
    key: id
    when: nome like '%Jo%'
    data: {id: id, nome: nome, cidade: cidade.nome}
    lookup:
      cidade: select nome from cidades where cidades.nome = new.cidade and cidades.nome <> 'São Tomé'
  - event: numero
    table: clientes
    on: [insert, update]
    data: {id: id}
`

const textTables = "create table clientes (id int primary key, nome text, cidade text); create table cidades (nome text)"

// TestSourceEncoding: the text of a database whose server does not know its
// encoding, nor that of the names in its catalogue. One value that is no text parks its change, for the rules that read it.
func TestSourceEncoding(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	for encoding, c := range map[string]struct{ good, bad, city, column, label, want string }{
		"latin1":  {`E'Jo\xe3o \x80'`, "", `E'S\xe3o Paulo'`, `E'situa\xe7\xe3o'`, `E'N\xc3O'`, "\"João \u0080\"\"São Paulo\"true"},
		"win1252": {`E'Jo\xe3o \x80'`, `E'Jo\x81'`, `E'S\xe3o Paulo'`, `E'situa\xe7\xe3o'`, `E'N\xc3O'`, `"João €""São Paulo"true`},
		"utf8":    {`E'Jo\xc3\xa3o'`, `E'Jo\xe3o'`, `E'S\xc3\xa3o Paulo'`, `E'situa\xc3\xa7\xc3\xa3o'`, `E'N\xc3\x83O'`, `"João""São Paulo"true`},
	} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, pg, "template template0 encoding 'SQL_ASCII' locale 'C'", testservers.RedisOptions{}, textTables)
			r := newReceiver(t, nil)
			w.source = "  encoding: " + encoding
			w.rules = strings.Replace(textRules, "cidade.nome}", "cidade.nome, nega: situação = 'NÃO'}", 1)
			w.exec("do $$ begin execute format('create type estado as enum (''SIM'', %L)', " + c.label + "); execute format('alter table clientes add %I estado', " + c.column + "); end $$")
			w.endpoint("a", r.url(), "events: [cliente]")
			w.endpoint("b", r.url(), "events: [numero]")
			b := w.run()
			n := 1
			w.exec("insert into cidades values (" + c.city + ")")
			if c.bad != "" {
				w.exec("insert into clientes values (1, " + c.bad + ")")
				n++
				if line := b.waitLog("change parked"); !strings.Contains(line, "when needs new.nome, whose bytes are no text in source.encoding") {
					t.Errorf("parked: %s", line)
				}
			}
			w.exec("insert into clientes values (2, " + c.good + ", " + c.city + ", " + c.label + ")")
			for _, a := range r.waitCount(n + 1) {
				if got := string(a.data["nome"]) + string(a.data["cidade"]) + string(a.data["nega"]); a.event == "cliente" && got != c.want {
					t.Errorf("arrived %s, want %s", got, c.want)
				}
			}
			b.stop()
		})
	}
}

// TestUnprintableText: a text that the server cannot convert ends the stream with
// where and what to do, and both ways out work.
func TestUnprintableText(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		database, setting string
		skip              bool
	}{
		"SQL_ASCII":        {"SQL_ASCII", "latin1", false},
		"WIN1252":          {"WIN1252", "win1252", false},
		"skip transaction": {"WIN1252", "", true},
	}
	for _, name := range testservers.Sample(slices.Sorted(maps.Keys(cases))) {
		c := cases[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, pg, "template template0 encoding '"+c.database+"' locale 'C'", testservers.RedisOptions{}, textTables)
			r := newReceiver(t, nil)
			w.rules = textRules
			w.endpoint("a", r.url(), "events: [numero]")
			b := w.run()
			if warned := strings.Contains(b.text(), "the database's encoding is SQL_ASCII"); warned != (c.database == "SQL_ASCII") {
				t.Errorf("warned: %v", warned)
			}
			w.exec("insert into clientes values (1, 'a')")
			r.waitCount(1)
			w.exec(`insert into clientes values (2, E'\x81')`)
			w.exec("insert into clientes values (3, 'c')")
			line := b.waitLog("capture is refused")
			at := regexp.MustCompile(`cannot send a change of the transaction at (0/[0-9A-F]+), of table public.clientes, after 0 others`).FindStringSubmatch(line)
			if at == nil || strings.Contains(b.text(), "0x81") || !strings.Contains(line, "source.encoding: ") || !strings.Contains(line, "gancho recover --skip "+at[1]) {
				t.Fatalf("it does not say where, and what to do:\n%s", line)
			}
			want := "23"
			if c.skip {
				want = "3"
				skipped(t, w, b, at[1])
			} else {
				b.stop()
				w.source = "  encoding: " + c.setting
				b = w.run()
			}
			var rows []string
			for _, a := range r.waitCount(1 + len(want))[1:] {
				rows = append(rows, a.field("id"))
			}
			slices.Sort(rows) // they are of different keys
			if got := strings.Join(rows, ""); got != want {
				t.Errorf("rows %s arrived, want %s", got, want)
			}
			b.stop()
		})
	}
}

// skipped has the bridge step over the transaction at which its stream ends, and over no other.
func skipped(t *testing.T, w *world, b *bridge, at string) {
	t.Helper()
	config := filepath.Join(w.dir, "gancho.yaml")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--skip", "0/1", "--yes"}, 1, "gancho recover --skip " + at},
		{[]string{"--skip", "zero", "--yes"}, 2, "is no position in the WAL"},
		{[]string{"--skip", at}, 2, "add --yes"},
		{[]string{"--skip", at, "--dry-run"}, 3, "would be stepped over"},
		{[]string{"--skip", at, "--yes"}, 0, "is recorded as a gap"},
	} {
		code, stdout, stderr := command(t, append([]string{"recover", "--config", config}, c.args...)...)
		if code != c.code || !strings.Contains(stdout+stderr, c.want) {
			t.Fatalf("%v: exit %d, want %d with %q:\n%s%s", c.args, code, c.code, c.want, stdout, stderr)
		}
	}
	b.waitLog("stepped over the transaction")
	b.waitLog("bridge is ready")
	if code, stdout, stderr := command(t, "recover", "--list", "--config", config); code != 0 || !strings.Contains(stdout, "in the transaction at "+at) {
		t.Errorf("exit %d, the gap is not listed:\n%s%s", code, stdout, stderr)
	}
	if code, _, stderr := command(t, "recover", "--skip", at, "--yes", "--config", config); code != 1 || !strings.Contains(stderr, "does not end at "+at) {
		t.Errorf("a position that was passed: exit %d\n%s", code, stderr)
	}
}

// TestEncodingOfAnotherDatabase: what the server converts is not converted again.
func TestEncodingOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, textTables)
	w.source = "  encoding: latin1"
	w.rules = textRules
	b := w.start("run", "--create", "--config", w.write())
	b.wait(1)
	if !strings.Contains(b.text(), "source.encoding is latin1, and the database's own encoding is UTF8") {
		t.Errorf("it says:\n%s", b.text())
	}
}
