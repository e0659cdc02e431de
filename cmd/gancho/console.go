package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"gancho/config"
	"gancho/internal/bridge"
	"gancho/internal/console"
	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/presets"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
)

func newConsoleCommand() *cobra.Command {
	var f sessionFlags
	cmd := &cobra.Command{
		Use: "console", Short: "Open the console in the browser, or make a link into it", Args: noArguments,
		Long: `Open the console of a running bridge in the browser, signed in as the administrator of this machine. gancho console
link makes a one-time link for somebody else. Both need console: in gancho.yaml, and state.key.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				l, err := s.CreateLink(ctx, s.actor, control.NewLink{Role: state.Admin, For: openLife})
				if err != nil {
					return err
				}
				if err := openBrowser(ctx, l.URL); err != nil {
					return s.result(l, "no browser could be opened here; open this link, once, within %s: %s\n", openLife, l.URL)
				}
				return s.result(l, "the console opens in the browser\n")
			})
		},
	}
	f.registerStored(cmd)
	cmd.AddCommand(newConsoleLinkCommand(&f))
	return cmd
}

// openLife is how long the link of gancho console may be opened.
const openLife = 2 * time.Minute

func newConsoleLinkCommand(f *sessionFlags) *cobra.Command {
	var n control.NewLink
	var role, life string
	cmd := &cobra.Command{
		Use: "link", Short: "Make a one-time link into the console", Args: noArguments,
		Long: `Make a link that signs its user in to the console, once, within 60 seconds of its first opening. It is a secret:
whoever has it first is signed in.`,
		Example: "  gancho console link --tenant 1 --role admin --for 15m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n.Role = state.Role(role); !n.Role.Valid() {
				return usageError{fmt.Errorf("--role %q: write viewer, operator or admin", role)}
			}
			var err error
			n.For, err = scalar("--for", life, nil, func(v strictyaml.Value) time.Duration { return v.Duration(time.Second, control.MaxLinkLife) })
			if err != nil {
				return err
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				l, err := s.CreateLink(ctx, s.actor, n)
				if err != nil {
					return err
				}
				return s.result(l, "%s\nit is used once, until %s\n", l.URL, clock(l.Expires))
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&role, "role", string(state.Viewer), "viewer, operator or admin")
	flags.StringVar(&n.Tenant, "tenant", "", "the one `tenant` whose endpoints and events its user sees")
	flags.StringVar(&life, "for", "15m", "how long it may be opened, as a `duration` up to 24h")
	return cmd
}

// openBrowser opens a page in the browser of who sits at this machine.
func openBrowser(ctx context.Context, url string) error {
	name, args := "xdg-open", []string{url}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", url}
	case "linux":
		if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
			return errors.New("there is no display")
		}
	}
	return exec.CommandContext(ctx, name, args...).Run() //nolint:gosec // one of the three programs above, and no shell
}

// consoleURL is the origin of the console for a command; empty: there is none, or its port is chosen when the bridge starts.
func consoleURL(c *config.Console) string {
	if _, port, err := net.SplitHostPort(c.Listen); c.PublicURL == "" && (err != nil || port == "0") {
		return ""
	}
	return cmp.Or(c.PublicURL, scheme(c.TLS)+"://"+c.Listen)
}

// consoleOptions are those of the configuration; nil: there is no console.
func consoleOptions(c *config.Console, log zerolog.Logger) (*bridge.ConsoleOptions, error) {
	if c.Listen == "" {
		return nil, nil // which is no mistake
	}
	o := &bridge.ConsoleOptions{
		Listen: c.Listen, PublicURL: c.PublicURL, Language: language.Code(c.Language), Embed: c.Embed, Brand: console.Brand{Name: c.Brand.Name, Color: c.Brand.Color},
		TenantsSQL: c.Tenants.SQL, TenantsFor: c.Tenants.Cache,
	}
	for _, t := range c.Tenants.List {
		o.Tenants = append(o.Tenants, console.Tenant(t))
	}
	var err error
	if o.Certificate, err = openCertificate(c.TLS, log); err != nil {
		return nil, err
	}
	if o.Screens, err = readScreens(c.Screens); err != nil {
		return nil, err
	}
	if c.Brand.Logo == "" {
		return o, nil
	}
	if o.Brand.Logo, err = os.ReadFile(c.Brand.Logo); err != nil {
		return nil, fmt.Errorf("read console.brand.logo: %w", err)
	}
	o.Brand.LogoType = "image/png"
	if strings.EqualFold(filepath.Ext(c.Brand.Logo), ".svg") {
		o.Brand.LogoType = "image/svg+xml"
	}
	return o, nil
}

// readScreens reads vendors' screens: by a name of ours, or from a file.
func readScreens(names []string) ([]presets.Screen, error) {
	var all []presets.Screen
	for _, name := range names {
		var screen presets.Screen
		var err error
		if slices.Contains(presets.ScreenNames(), name) {
			screen, err = presets.OwnScreen(name)
		} else {
			var src []byte
			if src, err = os.ReadFile(name); err != nil {
				return nil, fmt.Errorf("read console.screens: %w", err)
			}
			screen, err = presets.ParseScreen(name, src)
		}
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(s presets.Screen) bool { return s.Name == screen.Name }) {
			return nil, fmt.Errorf("read console.screens: there are two screens with the name %q; leave one out, or rename its file", screen.Name)
		}
		all = append(all, screen)
	}
	return all, nil
}
