package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gancho/config"
)

// healthFlags are the flags of gancho health.
type healthFlags struct {
	config, url string
	live        bool
	timeout     time.Duration
}

func newHealthCommand() *cobra.Command {
	var f healthFlags
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask the bridge of this machine whether it is ready, for health checks",
		Long: `Ask the bridge that runs with this configuration, at http.listen, whether it is ready, and say why it is not. It exits
with 0 when it is, with 3 when it answers that it is not, and with 1 when nobody answers.`,
		Example: "  gancho health\n  gancho health --live --url http://127.0.0.1:8620",
		Args:    noArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	registerConfig(flags, &f.config)
	flags.StringVar(&f.url, "url", "", "`URL` of the bridge or of gancho listen, such as http://127.0.0.1:8620 (default: that of http.listen)")
	flags.BoolVar(&f.live, "live", false, "ask whether the process answers, whatever it waits for")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Second, "how long the answer may take")
	return cmd
}

func (f *healthFlags) run(cmd *cobra.Command) error {
	if f.timeout <= 0 {
		return usageError{fmt.Errorf("--timeout %s: use a duration such as 5s", f.timeout)}
	}
	base, client := strings.TrimRight(f.url, "/"), http.DefaultClient
	if base == "" {
		c, err := config.LoadHTTP(f.config, variable)
		if err != nil {
			return err
		}
		base, client = bridgeHere(cmd.Context(), c), &http.Client{Transport: healthTransport()}
	} else if !strings.HasPrefix(base, "http://") && !strings.HasPrefix(base, "https://") {
		return usageError{fmt.Errorf("--url %q: write one such as http://127.0.0.1:8620", f.url)}
	}
	path := "/readyz"
	if f.live {
		path = "/healthz"
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return usageError{fmt.Errorf("--url: %w", err)}
	}
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask the bridge: %w; is gancho run running here?", err)
	}
	defer func() { _ = answer.Body.Close() }() // it was read
	text, err := io.ReadAll(io.LimitReader(answer.Body, 8<<10))
	if err != nil {
		return fmt.Errorf("ask the bridge: %w", err)
	}
	line := strings.TrimSpace(string(text))
	switch answer.StatusCode {
	case http.StatusOK:
		_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
		return err
	case http.StatusServiceUnavailable:
		return findingsError{errors.New("not ready: " + line)}
	}
	return fmt.Errorf("%s answers %s, which no bridge does; is another server there?", base, answer.Status)
}
