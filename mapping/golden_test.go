package mapping_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"gancho/internal/strictyaml"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// Each file of testdata/parse is refused without a database, with exactly the
// messages of its golden file.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	files := wrongFiles(t, "testdata/parse/*.yaml")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			_, err := mapping.Parse(mapping.Options{Files: []string{file}})
			refused(t, file, err)
		})
	}
}

// Each file of testdata/bind is well formed and does not fit the schema.
func TestBindRefuses(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	conn := connect(t, "revoke create on schema public from public") // PostgreSQL 14 grants it
	for _, file := range wrongFiles(t, "testdata/bind/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			rules, err := mapping.Parse(mapping.Options{Files: []string{file}, Deny: []string{"clientes.foto", "public.clientes.cpf_cnpj"}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = rules.Bind(context.Background(), conn)
			refused(t, file, err)
		})
	}
}

func wrongFiles(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("found no files: %v", err)
	}
	return files
}

func refused(t *testing.T, file string, err error) {
	t.Helper()
	var all strictyaml.Errors
	if !errors.As(err, &all) {
		t.Fatalf("want a list of mistakes, got %T: %v", err, err)
	}
	golden(t, strings.TrimSuffix(file, ".yaml")+".golden", err.Error()+"\n")
}

// The mistakes of all files come at once, in the order of the files.
func TestParseReportsAllFiles(t *testing.T) {
	t.Parallel()
	_, err := mapping.Parse(mapping.Options{
		Files: []string{"testdata/parse/no_payload.yaml", "testdata/parse/missing.yaml", "testdata/parse/kinds.yaml"},
		Deny:  []string{"foto", `clientes."foto`},
	})
	if err == nil {
		t.Fatal("wrong files were accepted")
	}
	golden(t, "testdata/parse/all_files.golden", err.Error()+"\n")
}

func TestBindRefusesDenied(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rules := parse(t, mapping.Options{Deny: []string{"clientes.fotto", "cliente.foto", "loja.produtos.codigo", "mensalidades.total"}}, `
rules:
  - {event: a, table: clientes, on: insert, columns: [id]}
`)
	_, err := rules.Bind(context.Background(), conn)
	if err == nil {
		t.Fatal("names that protect nothing were accepted")
	}
	golden(t, "testdata/bind/deny.golden", err.Error()+"\n")
}
