package expr_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// TestMasks fixes the exact forms that receivers get. PostgreSQL has no such
// functions to compare with.
func TestMasks(t *testing.T) {
	t.Parallel()
	const cpf, cnpj = "***.***.***-**", "**.***.***/****-**"
	for _, c := range []struct{ function, in, want string }{
		{"mask_cpf", "12345678909", "***.456.789-**"},
		{"mask_cpf", "123.456.789-09", "***.456.789-**"},
		{"mask_cpf", " 123 456 789 09 ", "***.456.789-**"},
		{"mask_cpf", "12345678000190", "**.345.678/0001-**"}, // one column holds both
		{"mask_cpf", "1234567890", cpf},
		{"mask_cpf", "123456789012", cpf},
		{"mask_cpf", "1234567890A", cpf},
		{"mask_cpf", "Ana Souza", cpf},
		{"mask_cpf", "123456789é9", cpf},
		{"mask_cpf", ".", cpf},
		{"mask_cpf", strings.Repeat("1", 500), cpf},
		{"mask_cpf", "", ""},
		{"mask_cpf", "   ", ""},
		{"mask_cnpj", "12345678000190", "**.345.678/0001-**"},
		{"mask_cnpj", "12.345.678/0001-90", "**.345.678/0001-**"},
		{"mask_cnpj", "12.abc.345/01de-35", "**.ABC.345/01DE-**"}, // of July 2026
		{"mask_cnpj", "12ABC34501DE3X", cnpj},
		{"mask_cnpj", "12345678909", "***.456.789-**"},
		{"mask_cnpj", "1234567800019", cnpj},
		{"mask_cnpj", "Padaria São João Ltda", cnpj},
		{"mask_email", "maria.silva@exemplo.com.br", "m***@exemplo.com.br"},
		{"mask_email", "m@exemplo.com", "***@exemplo.com"},
		{"mask_email", "é@exemplo.com", "***@exemplo.com"},
		{"mask_email", "érica@exemplo.com", "é***@exemplo.com"},
		{"mask_email", " ana@exemplo.com  ", "a***@exemplo.com"},
		{"mask_email", "maria", "***"},
		{"mask_email", "@exemplo.com", "***"},
		{"mask_email", "maria@", "***"},
		{"mask_email", "maria@localhost", "***"},
		{"mask_email", "maria@x.com;joao@x.com", "***"},
		{"mask_email", "Maria Silva <maria@x.com>", "***"},
		{"mask_email", "maria@@x.com", "***"},
		{"mask_phone", "11987654321", "(11) *****-4321"},
		{"mask_phone", "(11) 98765-4321", "(11) *****-4321"},
		{"mask_phone", "1133334444", "(11) ****-4444"},
		{"mask_phone", "+55 11 98765-4321", "+55 (11) *****-4321"},
		{"mask_phone", "551133334444", "+55 (11) ****-4444"},
		{"mask_phone", "011 3333-4444", "(11) ****-4444"},
		{"mask_phone", "01187654321", "(11) ****-4321"},
		{"mask_phone", "987654321", "*****-4321"},
		{"mask_phone", "3333.4444", "****-4444"},
		{"mask_phone", "33334", "****-****"},
		{"mask_phone", "11987654321 falar com Ana", "****-****"},
		{"mask_phone", "+1 212 555 0100 99 88", "****-****"},
		{"last4", "4111111111111111", "1111"},
		{"last4", "4111 1111 1111 1234", "1234"},
		{"last4", "411111******1111", "1111"},
		{"last4", "****1111", "1111"},
		{"last4", "XXXX-XXXX-XXXX-9876", "9876"},
		{"last4", "1111", "****"}, // may be something else altogether
		{"last4", "12345678", "****"},
		{"last4", "4111111111111***", "****"},
		{"last4", "41111111111111111111", "****"},
		{"last4", "Ana 4111111111111111", "****"},
	} {
		s := legacy()
		got := result(t, s, c.function+"(nome)", client(cdc.Insert, insertOnly(s), nil, []string{"7", "AT", c.in}))
		if got != c.want {
			t.Errorf("%s(%q) is %q, want %q", c.function, c.in, got, c.want)
		}
		// A padded column gives the same.
		padded := result(t, s, c.function+"(nome::char(600))", client(cdc.Insert, insertOnly(s), nil, []string{"7", "AT", c.in}))
		if padded != c.want {
			t.Errorf("%s(%q) of a padded column is %q, want %q", c.function, c.in, padded, c.want)
		}
	}
}

func insertOnly(s *expr.Scope) *expr.Scope {
	s.Old, s.Insert, s.Update, s.Delete = false, true, false, false
	return s
}

func TestMasksOfNullAndUnknown(t *testing.T) {
	t.Parallel()
	s := legacy()
	s.Settings.Secrets = map[string][]byte{"cpf": []byte("0123456789abcdef")}
	for _, call := range []string{"mask_cpf(nome)", "mask_cnpj(nome)", "mask_email(nome)", "mask_phone(nome)", "last4(nome)", "hmac(nome, 'cpf')"} {
		if got := result(t, s, call, client(cdc.Update, s, nil, []string{"7", "AT", "-"})); got != "null" {
			t.Errorf("%s of null is %q", call, got)
		}
		if got := result(t, s, call, client(cdc.Update, s, nil, []string{"7", "AT", "~"})); !strings.HasPrefix(got, "read new.nome: the server did not send") {
			t.Errorf("%s of an unchanged large value is %q", call, got)
		}
		e, err := expr.Compile(call, s)
		if err != nil {
			t.Fatal(err)
		}
		if e.Type().Name != "text" {
			t.Errorf("%s is %s, want text", call, e.Type().Name)
		}
	}
}

func TestHMAC(t *testing.T) {
	t.Parallel()
	s := legacy()
	key := []byte("0123456789abcdef0123456789abcdef")
	s.Settings.Secrets = map[string][]byte{"cpf": key, "email": []byte("another key of some length")}
	change := client(cdc.Update, s, nil, []string{"7", "AT", "12345678909"})
	sign := func(key []byte, text string) string {
		mac := hmac.New(sha256.New, key)
		_, _ = mac.Write([]byte(text))
		return hex.EncodeToString(mac.Sum(nil))
	}
	for src, want := range map[string]string{
		"hmac(nome, 'cpf')":                                 sign(key, "12345678909"),
		"hmac(nome, 'email')":                               sign(s.Settings.Secrets["email"], "12345678909"),
		"hmac(nome::char(20), 'cpf')":                       sign(key, "12345678909"),
		"hmac(id::text, 'cpf') || '/' || hmac('', 'email')": sign(key, "7") + "/" + sign(s.Settings.Secrets["email"], ""),
	} {
		if got := result(t, s, src, change); got != want {
			t.Errorf("%s is %s, want %s", src, got, want)
		}
	}
	_, err := expr.Compile("hmac(nome, 'emial')", s)
	var list expr.Errors
	if !errors.As(err, &list) || list[0].Hint != "did you mean 'email'?" {
		t.Errorf("an unknown secret: %v", err)
	}
}

// TestHiddenColumns: a column is hidden when every mention of it is.
func TestHiddenColumns(t *testing.T) {
	t.Parallel()
	s := legacy()
	s.Settings.Secrets = map[string][]byte{"cpf": []byte("0123456789abcdef")}
	for src, want := range map[string][]expr.Column{
		"mask_cpf(nome)":                             {{Index: 2, Name: "nome", Hidden: true}},
		"mask_cpf(replace(nome, situacao, ''))":      {{Index: 1, Name: "situacao", Hidden: true}, {Index: 2, Name: "nome", Hidden: true}},
		"mask_cpf(nome) || nome":                     {{Index: 2, Name: "nome"}},
		"nome || hmac(nome, 'cpf')":                  {{Index: 2, Name: "nome"}},
		"coalesce(last4(new.nome), old.nome)":        {{Index: 2, Name: "nome", Hidden: true}, {Old: true, Index: 2, Name: "nome"}},
		"case when id = 1 then mask_email(nome) end": {{Index: 0, Name: "id"}, {Index: 2, Name: "nome", Hidden: true}},
		"mask_cpf(nome) || hmac(nome, 'cpf')":        {{Index: 2, Name: "nome", Hidden: true}},
	} {
		e, err := expr.Compile(src, s)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, e.Columns()); diff != "" {
			t.Errorf("%s: want - got +\n%s", src, diff)
		}
	}
}
