package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"gancho/config"
	"gancho/internal/jsonschema"
	"gancho/internal/strictyaml"
	"gancho/mapping"
	"gancho/mapping/ruletest"
)

// fileSchema is the JSON Schema of a kind of file.
type fileSchema struct {
	name   string // of the kind
	schema func() *jsonschema.Schema
}

// schemaDirectory holds the schemas, beside gancho.yaml.
const schemaDirectory = "schemas"

func (s fileSchema) file() string { return s.name + ".json" }

func fileSchemas() []fileSchema {
	return []fileSchema{{"config", config.Schema}, {"rules", mapping.Schema}, {"tests", ruletest.Schema}}
}

// text is the schema as a file.
func (s fileSchema) text() (string, error) {
	text, err := jsonschema.Encode(s.schema())
	return string(text), err
}

// modeline is the comment by which editors with the YAML language server find the schema of
// a file that is that many directories below gancho.yaml.
func (s fileSchema) modeline(below int) string {
	return "# yaml-language-server: $schema=" + strings.Repeat("../", below) + schemaDirectory + "/" + s.file() + "\n"
}

func newSchemaCommand() *cobra.Command {
	var dir string
	var names []string
	for _, s := range fileSchemas() {
		names = append(names, s.name)
	}
	cmd := &cobra.Command{
		Use:   "schema " + strings.Join(names, "|"),
		Short: "Print the JSON Schema of gancho.yaml, of rule files or of tests, for editors",
		Long: `Print the JSON Schema (2020-12) of gancho.yaml (config), of rule files (rules) or of the
tests of rules (tests), with which editors complete keys and mark mistakes. With -o all
three are written. gancho init writes them, and names them in the first line of its files:

  # yaml-language-server: $schema=schemas/config.json

gancho check finds more: what a schema cannot say, and what depends on the source.`,
		Example: "  gancho schema rules > rules.json\n  gancho schema -o schemas",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case dir != "" && len(args) > 0:
				return usageError{fmt.Errorf("unexpected argument %q: --output writes all schemas", args[0])}
			case dir != "":
				return writeSchemas(cmd, dir)
			case len(args) != 1:
				return usageError{fmt.Errorf("write the kind of file: %s", strings.Join(names, ", "))}
			}
			for _, s := range fileSchemas() {
				if s.name != args[0] {
					continue
				}
				text, err := s.text()
				if err == nil {
					_, err = fmt.Fprint(cmd.OutOrStdout(), text)
				}
				return err
			}
			hint := "write " + strings.Join(names, ", ")
			if near := strictyaml.Closest(args[0], names); near != "" {
				hint = "did you mean " + near + "?"
			}
			return usageError{fmt.Errorf("there is no schema %q; %s", args[0], hint)}
		},
	}
	cmd.Flags().StringVarP(&dir, "output", "o", "", "`directory` to write all of them to")
	return cmd
}

// addSchemas adds the schemas to the files of init, and names them in these.
func addSchemas(files map[string]string) error {
	for _, s := range fileSchemas() {
		text, err := s.text()
		if err != nil {
			return err
		}
		for name := range files {
			switch filepath.Dir(name) {
			case s.name: // rules or tests
				files[name] = s.modeline(1) + files[name]
			case ".":
				if name == "gancho.yaml" && s.name == "config" {
					files[name] = s.modeline(0) + files[name]
				}
			}
		}
		files[filepath.Join(schemaDirectory, s.file())] = text
	}
	return nil
}

func writeSchemas(cmd *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	for _, s := range fileSchemas() {
		text, err := s.text()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, s.file()), []byte(text), 0o600)
		}
		if err != nil {
			return fmt.Errorf("--output: %w", err)
		}
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", dir, said(speech(cmd), plural(int64(len(fileSchemas())), "file")))
	return err
}
