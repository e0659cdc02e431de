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
	"gancho/internal/testservers"
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
		{"mask_cpf", "12345678000195", "**.345.678/0001-**"}, // one column holds both
		{"mask_cpf", "1234567890", cpf},
		{"mask_cpf", "123456789012", cpf},
		{"mask_cpf", "1234567890A", cpf},
		{"mask_cpf", "Ana Souza", cpf},
		{"mask_cpf", "123456789é9", cpf},
		{"mask_cpf", ".", cpf},
		{"mask_cpf", strings.Repeat("1", 500), cpf},
		{"mask_cpf", "", ""},
		{"mask_cpf", "   ", ""},
		{"mask_cnpj", "12345678000195", "**.345.678/0001-**"},
		{"mask_cnpj", "12.345.678/0001-95", "**.345.678/0001-**"},
		{"mask_cnpj", "12.abc.345/01de-35", "**.ABC.345/01DE-**"}, // of July 2026
		{"mask_cnpj", "12ABC34501DE3X", cnpj},
		{"mask_cnpj", "12345678909", "***.456.789-**"},
		{"mask_cnpj", "1234567800019", cnpj},
		{"mask_cnpj", "12345678000190", cnpj},             // wrong check digits: it may be anything
		{"mask_cnpj", "00012345678909", "***.456.789-**"}, // a CPF filled up
		{"mask_cpf", "000.123.456.789-09", "***.456.789-**"},
		{"mask_cpf", "00012345678900", "***.456.789-**"}, // a mistyped one
		{"mask_cpf", "12345678909000", cpf},
		{"mask_cnpj", "00000000000191", "***.000.001-**"}, // both; a CPF shows less
		{"mask_cnpj", "00038166000105", "**.038.166/0001-**"},
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
		{"mask_email", "maria@12345678909.com", "***"},
		{"mask_email", "maria@123-456-789.09.com", "***"},
		{"mask_email", "maria@[127.0.0.1]", "***"},
		{"mask_email", "maria@exemplo.com?cpf=1", "***"},
		{"mask_email", "maria@exemplo.com/ana", "***"},
		{"mask_email", "maria@café.com.br", "***"},
		{"mask_email", "maria@mail-2.163.com", "m***@mail-2.163.com"},
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

// personal are valid numbers of a CPF, a CNPJ, one with letters, phones and a card.
var personal = []string{"52998224725", "11222333000181", "12ABC34501DE35", "11987654321", "5511987654321", "4111111111111111"}

// TestMasksHideNumbers puts each number behind and before other characters, with
// each separator at each place.
func TestMasksHideNumbers(t *testing.T) {
	t.Parallel()
	check := maskChecker(t)
	for _, number := range personal {
		for _, before := range testservers.Sample([]string{"", "0", "000", "55", "+55 ", "1", "12", "AB", "a@", "a@x", " ", "x", "*", "(", "ç", "\u00a0"}) {
			for _, after := range []string{"", "0", "000", "1", ".com", "@x.com", "*", "ç"} {
				check(t, number, before+number+after)
				for _, separator := range []string{".", "-", "/", " ", ",", "@", "*"} {
					for at := 1; at < len(number); at++ {
						check(t, number, before+number[:at]+separator+number[at:]+after)
					}
				}
			}
		}
	}
}

func FuzzMasks(f *testing.F) {
	check := maskChecker(f)
	for i := range personal {
		f.Add(uint8(i), "000", "", ".", uint8(3))
		f.Add(uint8(i), "a@", ".com", "-", uint8(9))
	}
	f.Fuzz(func(t *testing.T, which uint8, before, after, separator string, at uint8) {
		number := personal[int(which)%len(personal)]
		cut := int(at) % len(number)
		check(t, number, before+number[:cut]+separator+number[cut:]+after)
	})
}

// maskChecker returns a check that each mask of a text shows no more digits of
// a number in a row than its documentation says: six, and ten of a valid CNPJ.
func maskChecker(t testing.TB) func(t *testing.T, number, text string) {
	s := insertOnly(legacy())
	calls := []string{"mask_cpf(nome)", "mask_cnpj(nome)", "mask_email(nome)", "mask_phone(nome)", "last4(nome)"}
	var masks []*expr.Expr
	for _, call := range calls {
		e, err := expr.Compile(call, s)
		if err != nil {
			t.Fatal(err)
		}
		masks = append(masks, e)
	}
	change := client(cdc.Insert, s, nil, []string{"7", "AT", ""})
	machine := expr.NewMachine(s.Settings)
	return func(t *testing.T, number, text string) {
		change.New[2] = cdc.Datum{State: cdc.Present, Text: []byte(text)}
		machine.Load(change)
		limit := 6
		if isCNPJ(letters(text)) {
			limit = 10
		}
		for i, e := range masks {
			out, _, err := machine.AppendText(nil, e)
			if err != nil {
				t.Fatal(err)
			}
			for shown := range strings.SplitSeq(string(out), "*") {
				if run := common(letters(shown), number); run > limit {
					t.Errorf("%s of %q is %q, which shows %d digits of %s in a row", calls[i], text, out, run, number)
				}
			}
		}
	}
}

// letters returns the ASCII letters and digits of a text, in upper case.
func letters(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, strings.ToUpper(text))
}

// common returns how many digits the longest text has that both hold.
func common(a, b string) int {
	most := 0
	for i := range b {
		digits := 0
		for j := i; j < len(b) && strings.Contains(a, b[i:j+1]); j++ {
			if b[j] <= '9' {
				digits++
			}
			most = max(most, digits)
		}
	}
	return most
}

// isCNPJ computes the check digits as Receita Federal writes them out, with one
// list of weights for each.
func isCNPJ(id string) bool {
	if len(id) != 14 {
		return false
	}
	for n, weights := range map[int][]int{12: {5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2}, 13: {6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2}} {
		sum := 0
		for i, weight := range weights {
			sum += weight * int(id[i]-'0')
		}
		want := 11 - sum%11
		if want > 9 {
			want = 0
		}
		if int(id[n]-'0') != want {
			return false
		}
	}
	return true
}
