// Package presets holds rule files for what users of Brazilian business systems
// expect: the events that Pacto, Superlógica and iSET document, written for the
// legacy schema of migrations and meant to be adapted.
//
// The vendors publish no payloads: names and conditions follow theirs, the
// shape of the data is ours. A test plays the statement behind every event
// through the bridge and compares the webhook.
package presets

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed iset.yaml pacto.yaml superlogica.yaml
var files embed.FS

//go:embed tests/iset.yaml tests/pacto.yaml tests/superlogica.yaml
var tests embed.FS

// Names lists the presets: iset, pacto, superlogica.
func Names() []string {
	// Reading the directory of an embedded file system cannot fail.
	entries, _ := files.ReadDir(".")
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Files returns the rule files of a preset by their names, such as
// superlogica.yaml. The texts are the caller's own.
func Files(name string) (map[string][]byte, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("find preset %q: it does not exist; write one of %s", name, strings.Join(Names(), ", "))
	}
	text, err := files.ReadFile(name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("read preset %q: %w", name, err)
	}
	return map[string][]byte{name + ".yaml": text}, nil
}

// Tests returns the files of cases of a preset's rules, for gancho test, by their names.
// They hold for the rules as Files returns them, without those of other presets.
func Tests(name string) (map[string][]byte, error) {
	text, err := tests.ReadFile("tests/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("read the tests of preset %q: %w", name, err)
	}
	return map[string][]byte{name + ".yaml": text}, nil
}
