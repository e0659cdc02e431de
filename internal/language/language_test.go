package language_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/language"
)

// Both languages have the same texts, with the same values in them, in the order of the alphabet.
func TestSameKeys(t *testing.T) {
	t.Parallel()
	portuguese, english := language.Of(language.Portuguese).Keys(), language.Of(language.English).Keys()
	placeholder := regexp.MustCompile(`\{[a-z]+\}`)
	values := func(text string) []string {
		found := placeholder.FindAllString(text, -1)
		slices.Sort(found)
		return found
	}
	for key, text := range english {
		other, ok := portuguese[key]
		if !ok {
			t.Errorf("pt-BR.yaml has no %s", key)
		} else if diff := cmp.Diff(values(text), values(other)); diff != "" {
			t.Errorf("the values of %s differ (-en +pt-BR):\n%s", key, diff)
		}
	}
	for key := range portuguese {
		if _, ok := english[key]; !ok {
			t.Errorf("en.yaml has no %s", key)
		}
	}
	for _, name := range []string{"pt-BR.yaml", "en.yaml"} {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for line := range strings.Lines(string(src)) {
			if key, _, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, "#") {
				keys = append(keys, key)
			}
		}
		if !slices.IsSorted(keys) {
			sorted := slices.Sorted(slices.Values(keys))
			t.Errorf("the keys of %s are not in order:\n%s", name, cmp.Diff(sorted, keys))
		}
	}
}

// What the sources use exists, and what exists is used.
func TestUsedKeys(t *testing.T) {
	t.Parallel()
	const key = `"([a-z_]+(?:\.[a-zA-Z0-9_-]+)+)"`
	exact := map[string]*regexp.Regexp{
		".html": regexp.MustCompile(`\bt ` + key),
		".go":   regexp.MustCompile(`(?:\b[tT]ext\(|\bfail\([^"\n]*|\brefuseSignIn\([^\n]*)` + key),
	}
	counted := map[string]*regexp.Regexp{".html": regexp.MustCompile(`\bcount ` + key), ".go": regexp.MustCompile(`\bCount\(` + key)}
	// Those with a prefix: word, choice, and what is made of a screen's name or of what was done.
	prefixes := map[string]*regexp.Regexp{
		".html": regexp.MustCompile(`\bword "([a-z_.]+)"|\bchoice \.Form "[a-z_]+" \(t "[a-z_.]+"\) "([a-z_.]+)"`),
		".go":   regexp.MustCompile(`\bWord\("([a-z_.]+)"|\b(?:goTo|doneUnit|switching[A-Za-z]+)\((?:[^"\n]*"[^"]*")??[^"\n]*, "([a-z_]+)"\)|\bname: "([a-z_]+)", path:`),
	}
	texts, used := language.Of(language.English).Keys(), map[string]bool{}
	use := func(file, key string) {
		if used[key] = true; texts[key] == "" {
			t.Errorf("%s uses %s, which is no key", file, key)
		}
	}
	for _, dir := range []string{"..", "../../cmd"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			ext := filepath.Ext(path)
			if err != nil || d.IsDir() || exact[ext] == nil || strings.HasSuffix(path, "_test.go") || filepath.Base(path) == "doc.go" || !strings.Contains(path, "/console/") && !strings.Contains(path, "/language/") {
				return err
			}
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range exact[ext].FindAllStringSubmatch(string(src), -1) {
				use(path, m[1])
			}
			for _, m := range counted[ext].FindAllStringSubmatch(string(src), -1) {
				use(path, m[1]+".one")
				use(path, m[1]+".other")
			}
			for _, m := range prefixes[ext].FindAllStringSubmatch(string(src), -1) {
				switch {
				case len(m) > 3 && m[3] != "":
					use(path, "nav."+m[3])
				case len(m) > 3 && m[2] != "":
					use(path, "done."+m[2])
				default:
					prefix := m[1] + m[2] + "."
					for key := range texts {
						used[key] = used[key] || strings.HasPrefix(key, prefix) && !strings.Contains(strings.TrimPrefix(key, prefix), ".")
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(used) < 50 {
		t.Errorf("only %d keys were found in the sources", len(used))
	}
	for key := range texts {
		if !used[key] && !strings.HasPrefix(key, "cli.") && !strings.HasPrefix(key, "problem.") && !strings.HasPrefix(key, "reason.") { // those are compared with what is said: cmd/gancho's TestTranslated
			t.Errorf("nothing uses %s", key)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]language.Code{
		"": language.Portuguese, "pt-PT,pt;q=0.9,en;q=0.8": language.Portuguese, "en-GB,en;q=0.9": language.English,
		"de-DE,de;q=0.9,en;q=0.1": language.English, "en;q=0.2,pt;q=0.7": language.Portuguese, "de": language.Portuguese, "\x00;;": language.Portuguese,
	} {
		if got := language.Choose(accept, language.Portuguese); got != want {
			t.Errorf("Accept-Language %q: %s, want %s", accept, got, want)
		}
	}
	for value, want := range map[string]language.Code{"pt_BR.UTF-8": language.Portuguese, "pt": language.Portuguese, "en_US.UTF-8": language.English, "C": language.English, "": language.English} {
		got := language.OfEnvironment(func(name string) (string, bool) { return value, name == "LANG" })
		if got != want {
			t.Errorf("LANG=%s: %s, want %s", value, got, want)
		}
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("America/Sao_Paulo")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 29, 1, 2, 3, 0, time.UTC)
	for code, want := range map[language.Code][]string{
		language.Portuguese: {"1.234.567", "1,5 GiB", "28/11/2026 22:02:03", "há 3 min", "em 5 h", "sem.chave"},
		language.English:    {"1,234,567", "1.5 GiB", "2026-11-28 22:02:03", "3 min ago", "in 5 h", "sem.chave"},
	} {
		l := language.Of(code)
		got := []string{l.Number(1234567), l.Bytes(3 << 29), l.Time(at, zone), l.Ago(at, at.Add(200*time.Second)), l.Ago(at.Add(5*time.Hour), at), l.Text("sem.chave")}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", code, diff)
		}
	}
}
