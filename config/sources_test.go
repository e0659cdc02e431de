package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"gancho/config"
)

// The names of sources last: with another one a slot, keys and tenants would be others.
func TestNamesOfSources(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ database, name, slot string }{
		{"cliente_001", "cliente_001", "gancho_cliente_001"},
		{"7", "7", "gancho_7"},
		{"rede-sul", "rede-sul", "gancho_rede_sul_996950c067"},
		{"Cliente 001", "cliente_001-7da09c26e6", "gancho_cliente_001_7da09c26e6_35d6d5e58f"},
		{"cliente_0123456789", "cliente_0123456789-94d7584bb6", "gancho_cliente_0123456789_94d7584bb6_943713a3af"},
		{"ação", "a_o-0664077f33", "gancho_a_o_0664077f33_e56554a41e"},
		{"a/b", "a_b-c14cddc033", "gancho_a_b_c14cddc033_3ece288ad4"},
		{"São José dos Campos, academia da praça central", "s_o_jos_dos_campos_academia_da_pra_a-", "gancho_s_o_jos_dos_campos_academia_da_pra_a_"},
		{"x23456789_123456789_123456789_123456789_12345678", "x23456789_123456789_123456789_123456789_12345678", "gancho_x23456789_123456789_123456789_123456789_12345678"},
		{"x23456789_123456789_123456789_123456789_123456789", "x23456789_123456789_123456789_1234567-0819aff02f", "gancho_x23456789_123456789_123456789_1234567_0819aff_64f02f3a7a"},
		{"   ", "x-0aad7da77d", "gancho_x_0aad7da77d_0c9e236e6b"},
	} {
		name := config.SourceName(c.database)
		slot := config.SlotOf("gancho", name)
		if !strings.HasPrefix(name, c.name) || !strings.HasPrefix(slot, c.slot) || !strings.HasSuffix(c.name, "-") && name+slot != c.name+c.slot {
			t.Errorf("%q is %q with the slot %q, want %q, %q", c.database, name, slot, c.name, c.slot)
		}
	}
}

// No two databases have a name in common, nor two sources a slot, whatever they are called: names that look like folded ones included.
func TestNamesOfSourcesAreUnique(t *testing.T) {
	t.Parallel()
	databases := []string{"a b", "a_b", "a-b", "A_b", "a.b", "a/b", "ab", "á", "ã", "-", "_", "__", "", "gancho"}
	for i := range 300 {
		databases = append(databases, fmt.Sprintf("cliente_%03d", i), fmt.Sprintf("Cliente %03d", i))
	}
	for _, d := range databases { // and those that are named as others are folded
		databases = append(databases, config.SourceName(d), config.SlotOf("gancho", config.SourceName(d)))
	}
	names, slots := map[string]string{}, map[string]string{}
	for _, d := range databases {
		name := config.SourceName(d)
		if other, taken := names[name]; taken && other != d {
			t.Errorf("%q and %q are both %q", d, other, name)
		}
		names[name] = d
		for _, base := range []string{"gancho", "g23456789_123456789_123456789_123456789_123456789_123456789_123"} {
			slot := config.SlotOf(base, name)
			if other, taken := slots[slot]; taken && other != base+name {
				t.Errorf("%q and %q both have the slot %q", base+name, other, slot)
			}
			slots[slot] = base + name
			if len(slot) > 63 || len(name) > 48 {
				t.Errorf("%q is too long, or %q", slot, name)
			}
		}
	}
}

// A database of the cluster is reached as the cluster is, whatever its name has in it.
func TestDatabaseOfCluster(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://gancho:se%40gredo@db:6543/postgres?sslmode=disable&application_name=x",
		"postgres://gancho:segredo@db",
		"postgres://gancho@db:5432,db2:5433/academia?dbname=outra",
		"postgres://gancho@db:5432,db2/academia?database=outra",
		"postgresql://gancho:a#b?c@db/?",
		"postgresql://gancho@db/academia?sslmode=disable&",
		"postgres:///academia?host=/run/postgresql&user=gancho&password=a+b",
		"host=db port=6543 user=gancho password='se gredo' dbname=postgres sslmode=disable",
		"host=/var/run/postgresql user=gancho",
	} {
		for _, database := range []string{"cliente_001", "Cliente 1", "a/b", "/a", `a'b\c`, "ação & cia?x=1#y", "%41"} {
			c, err := config.Parse("gancho.yaml", []byte("cluster: {dsn: "+fmt.Sprintf("%q", dsn)+", databases: '*'}\nqueue: {redis: 'redis://r', prefix: rede}\nrules: testdata/rules/*.yaml\n"), env)
			if err != nil {
				t.Fatal(err)
			}
			d := c.Sources.Of(database)
			want, err := pgconn.ParseConfig(dsn)
			if err != nil {
				t.Fatal(err)
			}
			got, err := pgconn.ParseConfig(d.DSN.Reveal())
			if err != nil {
				t.Fatalf("%s: %v", d.DSN.Reveal(), err)
			}
			if got.Database != database || got.Host != want.Host || got.Port != want.Port || got.User != want.User || got.Password != want.Password || !cmp.Equal(got.RuntimeParams, want.RuntimeParams) || len(got.Fallbacks) != len(want.Fallbacks) {
				t.Errorf("%s in %q is %s: %+v", dsn, database, d.DSN.Reveal(), got)
			}
			if d.QueuePrefix != "rede:"+d.Name || d.LookupDSN != "" {
				t.Errorf("it is %+v", d)
			}
		}
	}
}
