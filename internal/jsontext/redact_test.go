package jsontext_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/jsontext"
)

// TestRedactWithin: what a text holds that is JSON or XML itself is found by its names, and a text
// without any of them stays as it is.
func TestRedactWithin(t *testing.T) {
	t.Parallel()
	const text = `{"a":" {\"cpf\": 1, \"n\": [\"{\\\"cpf\\\":2}\"]}","livre":"{\"b\" : 1}","quebrado":"{cpf","vazio":" ",` +
		`"x":"<nfe><emit><CPF>123</CPF></emit></nfe>","atributo":"\n<?xml version='1.0'?><a cpf='123'/>","campo":"<campo nome=\"cpf\">123</campo>","ns":"<n:cpf>1</n:cpf>","aberto":"<cpf",` +
		`"html":"<b>cpf</b>","menor":"< 18","lista":["<cpf/>"]}`
	const want = `{"a":"{\"cpf\":\"***\",\"n\":[\"{\\\"cpf\\\":\\\"***\\\"}\"]}","livre":"{\"b\" : 1}","quebrado":"{cpf","vazio":" ",` +
		`"x":"***","atributo":"***","campo":"***","ns":"***","aberto":"***",` +
		`"html":"<b>cpf</b>","menor":"< 18","lista":["***"]}`
	var paths []string
	got := jsontext.Redact([]byte(text), func(path, key string) bool {
		hidden := key == "cpf" || key == "CPF"
		if hidden {
			paths = append(paths, path)
		}
		return hidden
	})
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("redacted (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a.cpf", "a.n.0.cpf", "x.CPF", "atributo.cpf", "campo.cpf", "ns.cpf", "aberto.cpf", "lista.0.cpf"}, paths); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}
