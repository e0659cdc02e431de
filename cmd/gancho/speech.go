package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gancho/internal/language"
)

// inLanguage returns a context with the language of the environment, unless it has one already.
func inLanguage(ctx context.Context) (context.Context, *language.Language) {
	l, chosen := language.From(ctx)
	if !chosen {
		l = language.Of(language.OfEnvironment(os.LookupEnv))
		ctx = language.With(ctx, l)
	}
	return ctx, l
}

// speak has the help of all commands in a language. Commands are written in English, where their texts stand; args are those of
// the command line, by which cobra decides whether there is a command for completion.
func speak(root *cobra.Command, l *language.Language, args []string) {
	if l.Code == language.English {
		return
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	var translate func(*cobra.Command)
	translate = func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		cmd.Use = l.Translate("cli.use", cmd.Use) + l.Text("cli.frame.flags_of")
		cmd.DisableFlagsInUseLine = true // which are those in English
		cmd.Short, cmd.Long = l.Translate("cli.help", cmd.Short), l.Translate("cli.help", cmd.Long)
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { f.Usage = l.Translate("cli.flag", f.Usage) })
		for _, sub := range cmd.Commands() {
			translate(sub)
		}
	}
	translate(root)
	frame := strings.NewReplacer(
		"Usage:", l.Text("cli.frame.usage"), "Aliases:", l.Text("cli.frame.aliases"), "Examples:", l.Text("cli.frame.examples"),
		"Available Commands:", l.Text("cli.frame.commands"), "Global Flags:", l.Text("cli.frame.global"), "Flags:", l.Text("cli.frame.flags"),
		" [command]", l.Text("cli.frame.command_of"),
		`Use "`, l.Text("cli.frame.use"), `" for more information about a command.`, l.Text("cli.frame.more"),
		"(default ", l.Text("cli.frame.default"),
	)
	usage := root.UsageFunc()
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		out, text := cmd.OutOrStderr(), bytes.Buffer{}
		cmd.SetOut(&text)
		err := usage(cmd)
		cmd.SetOut(out)
		if err == nil {
			_, err = io.WriteString(out, aligned(frame.Replace(text.String())))
		}
		return err
	})
}

// flagColumn is a flag with the name of its value, and the spaces in front of its text.
var flagColumn = regexp.MustCompile(`(?m)^ +(?:-\w, )?--[^ \n]+(?: [^ \n]+)* {2,}`)

// aligned puts the texts of flags below each other: pflag counts bytes, of which "padrão" has more than letters.
func aligned(usage string) string {
	return flagColumn.ReplaceAllStringFunc(usage, func(column string) string {
		return column + strings.Repeat(" ", len(column)-utf8.RuneCountInString(column))
	})
}
