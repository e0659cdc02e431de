//go:build manual

package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manualCommands are the command that writes the manual pages of packages. It is in no binary that
// is given away: the library that it needs would be linked into all of them.
func manualCommands() []*cobra.Command {
	return []*cobra.Command{{
		Use:    "manual DIRECTORY",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			// The date is that of SOURCE_DATE_EPOCH.
			return doc.GenManTree(cmd.Root(), &doc.GenManHeader{Title: "", Section: "1", Source: "Gancho " + version, Manual: "Gancho"}, args[0])
		},
	}}
}
