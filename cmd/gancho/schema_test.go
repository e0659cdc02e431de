package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"gancho/internal/testservers"
)

// fileSchema compiles the schema that gancho schema prints.
func fileSchema(t *testing.T, kind string) *jsonschema.Schema {
	t.Helper()
	code, out, errs := command(t, "schema", kind)
	if code != 0 {
		t.Fatalf("gancho schema %s: %s", kind, errs)
	}
	return compileSchema(t, []byte(out))
}

func compileSchema(t *testing.T, text []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:schema", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("mem:schema")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// yamlValue is a YAML file as a validator of JSON Schema sees it; nil: it is no YAML.
func yamlValue(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if yaml.Unmarshal(text, &v) != nil {
		return nil
	}
	out, err := json.Marshal(plainYAML(v))
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// plainYAML has texts where YAML has dates, and for keys.
func plainYAML(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = plainYAML(v[k])
		}
	case map[any]any:
		out := map[string]any{}
		for k, item := range v {
			out[fmt.Sprint(k)] = plainYAML(item)
		}
		return out
	case []any:
		for i := range v {
			v[i] = plainYAML(v[i])
		}
	case nil, string, bool, int, int64, uint64, float64:
	default:
		return fmt.Sprint(v)
	}
	return v
}

// kindOf is which schema a file of the repository is of; "": of none.
func kindOf(text string) string {
	for kind, key := range map[string]string{"config": "source", "rules": "rules", "tests": "tests"} {
		if regexp.MustCompile(`(?m)^`+key+`:`).MatchString(text) && (kind != "rules" || !regexp.MustCompile(`(?m)^(source|endpoints|queue):`).MatchString(text)) {
			return kind
		}
	}
	return ""
}

// TestSchemasAccept: every configuration, rule file and file of tests in the repository that
// its decoder reads is what its schema says, and so are the examples of the documentation.
func TestSchemasAccept(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	schemas := map[string]*jsonschema.Schema{}
	for _, kind := range []string{"config", "rules", "tests"} {
		schemas[kind] = fileSchema(t, kind)
	}
	count := map[string]int{}
	check := func(name, text string) {
		kind := kindOf(text)
		v := yamlValue(t, []byte(text))
		if kind == "" || v == nil {
			return
		}
		count[kind]++
		if err := schemas[kind].Validate(v); err != nil {
			t.Errorf("%s as %s: %v", name, kind, err)
		}
	}
	// Files with mistakes, which are below testdata, have golden files of them.
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "helm" || strings.HasPrefix(d.Name(), ".") && strings.Trim(d.Name(), ".") != "") { // a chart has a schema of its own
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".yaml" && filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if filepath.Ext(path) == ".md" {
			for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1) {
				if !strings.Contains(string(block[1]), "...") {
					check(path, string(block[1]))
				}
			}
			return nil
		}
		if !strings.Contains(path, "testdata") || strings.Contains(path, "testdata/init") || strings.Contains(filepath.Base(path), "valid") {
			check(path, string(text))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"config", "rules", "tests"} {
		if count[kind] < 3 {
			t.Errorf("%d files of %s were found", count[kind], kind)
		}
	}
}

// TestSchemasRefuse: what the decoders refuse as an unknown or missing key, or as the wrong
// kind of value, is not what the schemas say either.
func TestSchemasRefuse(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	for _, c := range []struct{ kind, file string }{
		{"config", "config/testdata/unknown_keys.yaml"}, {"config", "config/testdata/wrong_kinds.yaml"}, {"config", "config/testdata/missing.yaml"},
		{"config", "config/testdata/quotas.yaml"}, {"config", "config/testdata/state.yaml"}, {"config", "config/testdata/queue_cluster.yaml"},
		{"rules", "mapping/testdata/parse/unknown_keys.yaml"}, {"rules", "mapping/testdata/parse/kinds.yaml"}, {"rules", "mapping/testdata/parse/missing_keys.yaml"},
		{"rules", "mapping/testdata/parse/operations.yaml"}, {"tests", "mapping/ruletest/testdata/wrong.yaml"},
	} {
		text, err := os.ReadFile("../../" + c.file)
		if err != nil {
			t.Fatal(err)
		}
		if v := yamlValue(t, text); v == nil {
			t.Errorf("%s is no YAML", c.file)
		} else if fileSchema(t, c.kind).Validate(v) == nil {
			t.Errorf("%s is accepted as %s", c.file, c.kind)
		}
	}
	// Single mistakes in files that are right: each key is misspelt, and each value is of
	// another kind.
	for kind, file := range map[string]string{"config": "config/testdata/valid_full.yaml", "rules": "internal/presets/superlogica.yaml", "tests": "internal/presets/tests/iset.yaml"} {
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		schema := fileSchema(t, kind)
		whole := yamlValue(t, text)
		if err := schema.Validate(whole); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		n := 0
		mutate(whole, "", func(path string) {
			n++
			if schema.Validate(whole) == nil {
				t.Errorf("%s: a mistake at %s is accepted", file, path)
			}
		})
		if n < 20 {
			t.Errorf("%s: %d mistakes", file, n)
		}
	}
}

// free are mappings whose keys people choose, and values that may be anything.
var free = regexp.MustCompile(`\.(data|lookup|headers|extra|new|old|lookups|rows|evaluated|secrets|partial|previous|key|tenant|op|unchanged|errors)\b`)

// mutate makes one mistake at a time in a value, and takes it back.
func mutate(v any, path string, then func(path string)) {
	switch v := v.(type) {
	case map[string]any:
		if free.MatchString(path) {
			return
		}
		keys := []string{}
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			was := v[k]
			delete(v, k)
			v[k+"x"] = was
			then(path + "." + k + "x")
			delete(v, k+"x")
			if v[k] = was; !free.MatchString(path + "." + k) {
				v[k] = map[string]any{"wrong": map[string]any{}}
				if _, isMap := was.(map[string]any); isMap {
					v[k] = []any{map[string]any{"wrong": []any{}}}
				}
				then(path + "." + k)
			}
			v[k] = was
			mutate(was, path+"."+k, then)
		}
	case []any:
		for _, item := range v {
			mutate(item, path+"[]", then)
		}
	}
}

// TestSchemaCommand: what it prints is what it writes, and wrong use says so.
func TestSchemaCommand(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "schemas")
	if code, out, errs := command(t, "schema", "-o", dir); code != 0 || !strings.Contains(out, "3 files") {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	for _, kind := range []string{"config", "rules", "tests"} {
		written, err := os.ReadFile(filepath.Join(dir, kind+".json"))
		if _, out, _ := command(t, "schema", kind); err != nil || out != string(written) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "write the kind of file: config, rules, tests"}, {[]string{"rule"}, "did you mean rules?"}, {[]string{"rules", "-o", dir}, "unexpected argument"}, {[]string{"-o", ""}, "--output"},
	} {
		if code, _, errs := command(t, append([]string{"schema"}, c.args...)...); code != 2 || !strings.Contains(errs, c.want) {
			t.Errorf("gancho schema %q: %d %s", c.args, code, errs)
		}
	}
}
