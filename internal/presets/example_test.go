package presets_test

import (
	"bytes"
	"fmt"

	"gancho/internal/presets"
)

func Example() {
	for _, name := range presets.Names() {
		files, err := presets.Files(name)
		if err != nil {
			fmt.Println(err)
			return
		}
		for file, text := range files {
			fmt.Printf("%s: %d rules\n", file, bytes.Count(text, []byte("\n  - event:")))
		}
	}
	// Output:
	// iset.yaml: 18 rules
	// pacto.yaml: 6 rules
	// superlogica.yaml: 30 rules
}
