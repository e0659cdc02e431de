package webhook_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"gancho/delivery/webhook"

	"github.com/google/go-cmp/cmp"
)

// parsePHP reads a form as PHP does into $_POST: a port of
// php_register_variable_ex in main/php_variables.c, with the limit on nesting
// and without the one on the number of fields.
func parsePHP(body string) map[string]any {
	post := map[string]any{}
	for field := range strings.SplitSeq(body, "&") {
		name, value, _ := strings.Cut(field, "=")
		register(post, unescapePHP(name), unescapePHP(value))
	}
	return post
}

// unescapePHP decodes what is validly encoded, and leaves the rest.
func unescapePHP(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b.WriteByte(' ')
		case s[i] == '%' && i+2 < len(s):
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
			b.WriteByte('%')
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func register(post map[string]any, name, value string) {
	name, _, _ = strings.Cut(name, "\x00") // C's strings end there
	name = strings.TrimLeft(name, " ")
	base, rest, nested := strings.Cut(name, "[")
	base = strings.NewReplacer(" ", "_", ".", "_").Replace(base)
	if base == "" {
		return
	}
	at, key, appended := post, base, false
	for nested {
		from := 0
		if rest != "" && strings.ContainsRune(" \t\n\v\f\r", rune(rest[0])) {
			from = 1
		}
		end := strings.IndexByte(rest[from:], ']')
		if end < 0 {
			panic("the port leaves out what becomes of an unclosed bracket: Gancho never writes one")
		}
		inner := rest[:from+end]
		child := map[string]any{}
		if appended {
			key = strconv.Itoa(len(at))
		}
		if existing, ok := at[key].(map[string]any); ok {
			child = existing
		}
		at[key] = child
		at, key, appended = child, inner, end == 0
		if at == nil {
			return
		}
		rest, nested = strings.CutPrefix(rest[from+end+1:], "[")
	}
	if appended {
		key = strconv.Itoa(len(at))
	}
	at[key] = value
}

// inPHP is what $_POST should hold for a value: keys and leaves as text, empty
// arrays left out.
func inPHP(v any) (any, bool) {
	switch v := v.(type) {
	case nil:
		return "", true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return v.String(), true
	case string:
		return v, true
	}
	all := map[string]any{}
	add := func(key string, v any) {
		if text, ok := inPHP(v); ok {
			all[key] = text
		}
	}
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			add(keyInPHP(k), v[k])
		}
	case []any:
		for i := range v {
			add(strconv.Itoa(i), v[i])
		}
	}
	return all, len(all) > 0
}

func keyInPHP(k string) string {
	if k == "" || len(k) == 1 && strings.Contains(" \t\n\v\f\r", k) {
		return "_"
	}
	return strings.NewReplacer("]", "_", "\x00", "_").Replace(k)
}

// formCases are values, and random ones behind them.
func formCases() []string {
	cases := []string{
		`{}`, `[]`, ` { } `, `null`, `42`, `"a=b&c"`, `true`, `[[1],[[2]]]`, `[{"a":{"b":null}}]`,
		`{"a b":1,"a.b":2,"a[b":3,"a]b":4," ":5,"c":{"":6},"0":7,"01":8,"ção":9,"x\u0000y":10," z":11,"\u007f":12,"\"'<>#%&+=;/?":13}`,
		`{"texto":"linha 1\r\nlinha 2\t\u0000\ud83d"}`,
		strings.Repeat(`[`, 80) + `"fundo"` + strings.Repeat(`]`, 80),
		strings.Repeat(`{"k":`, 64) + `[1,"]"]` + strings.Repeat(`}`, 64),
		strings.Repeat(`{"k":`, 63) + `[1,"]"]` + strings.Repeat(`}`, 63),
	}
	r := rand.New(rand.NewPCG(4, 2))
	for range 2000 {
		cases = append(cases, string(randomJSON(r, nil, 4)))
	}
	return cases
}

// TestFormsAreReadByPHPsRules by a port of them, and by PHP where it is
// installed.
func TestFormsAreReadByPHPsRules(t *testing.T) {
	t.Parallel()
	cases := formCases()
	var forms, wants []string
	for _, text := range cases {
		form := "first=1" + webhook.FormValue("data", []byte(text))
		got := parsePHP(form)
		if nested(text) > 64 {
			if leaf := form[strings.LastIndexByte(form, '=')+1:]; !strings.HasSuffix(unescapePHP(leaf), "]") || strings.Count(form, "%5B") > 64+strings.Count(leaf, "%5B") {
				t.Errorf("%s: what is nested too deep for PHP is not written as JSON: %s", text, form)
			}
		} else {
			want, ok := inPHP(decoded(t, []byte(text)))
			if !ok {
				want = ""
			}
			if diff := cmp.Diff(want, got["data"]); diff != "" {
				t.Fatalf("%s\nas %s\nis read as (want -, got +):\n%s", text, form, diff)
			}
		}
		encoded, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		forms, wants = append(forms, form), append(wants, string(encoded))
	}
	php, err := exec.LookPath("php")
	if err != nil {
		t.Fatal("php is not installed; run make deps")
	}
	const script = `while (($line = fgets(STDIN)) !== false) { parse_str(rtrim($line, "\n"), $post);
		echo json_encode($post, JSON_FORCE_OBJECT | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES), "\n"; }`
	run := exec.CommandContext(t.Context(), php, "-d", "max_input_vars=100000", "-r", script)
	run.Stdin = strings.NewReader(strings.Join(forms, "\n") + "\n")
	out, err := run.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(forms) {
		t.Fatalf("PHP read %d of %d forms", len(lines), len(forms))
	}
	for i, line := range lines {
		if diff := cmp.Diff(decoded(t, []byte(wants[i])), decoded(t, []byte(line))); diff != "" {
			t.Fatalf("%s\nthe port (-) and PHP (+) differ:\n%s", forms[i], diff)
		}
	}
}

// nested is how deep the text's arrays are, strings aside.
func nested(text string) (deepest int) {
	depth, inside := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case c == '"':
			inside = !inside
		case !inside && (c == '[' || c == '{'):
			depth++
			deepest = max(deepest, depth)
		case !inside && (c == ']' || c == '}'):
			depth--
		}
	}
	return deepest
}

// FuzzForm: whatever the data, the form can be parsed, and begins and ends as
// it should; JSON arrives as PHP's rules say.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-2.5e+7,"3\"4",null]}`, `{"a":}`, `{"a"`, `[1,]`, `"\u00`, `{"a":1}x`, `nul`, `-`, "\"\x00\"", "00 "} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		form := webhook.FormValue("data", text)
		if _, err := url.ParseQuery(form); err != nil || !strings.HasPrefix(form, "&data") {
			t.Fatalf("%q becomes %q: %v", text, form, err)
		}
		post := parsePHP(form[1:])
		if !json.Valid(text) && post["data"] != strings.ToValidUTF8(string(text), "\ufffd") {
			t.Fatalf("%q is no JSON and becomes %q", text, form)
		}
	})
}
