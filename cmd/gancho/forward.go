package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"gancho/delivery/endpoint"
	"gancho/internal/control"
	"gancho/internal/forward"
	"gancho/internal/remote"
	"gancho/internal/state"
)

// forwardFlags are those of gancho listen --forward.
type forwardFlags struct {
	api, forward string
	endpoint     string
	events       []string
	tenant       string
}

func (f *forwardFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.forward, "forward", "", "send what a bridge delivers to this `URL`, too, such as http://localhost:3000/hooks")
	flags.StringVar(&f.api, apiFlag, "", "with --forward: the bridge's `address`; see gancho login")
	flags.StringVar(&f.endpoint, "endpoint", "", "with --forward: the `name` of the one endpoint whose requests are forwarded")
	flags.StringSliceVar(&f.events, "event", nil, "with --forward: `names` or patterns of events, such as 'cobranca.*'")
	flags.StringVar(&f.tenant, "tenant", "", "with --forward: the one `tenant` whose events are forwarded")
}

// refuseForwarding refuses what belongs to --forward.
func (f *forwardFlags) refuseForwarding(cmd *cobra.Command) error {
	for _, name := range []string{apiFlag, "endpoint", "event", "tenant"} {
		if cmd.Flags().Changed(name) {
			return usageError{fmt.Errorf("--%s is for --forward; add it, with the URL to forward to", name)}
		}
	}
	return nil
}

// refuseReceiving refuses what belongs to a receiver.
func refuseReceiving(cmd *cobra.Command) error {
	for _, name := range []string{"addr", "status", "answer", "delay", "fail-rate"} {
		if cmd.Flags().Changed(name) {
			return usageError{fmt.Errorf("--%s is for a receiver, and with --forward the one at the URL answers; remove it", name)}
		}
	}
	return nil
}

// runForward forwards until the command's context ends.
func (f *listenFlags) runForward(cmd *cobra.Command) error {
	if err := refuseReceiving(cmd); err != nil {
		return err
	}
	u, err := url.Parse(f.forward)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return usageError{errors.New("--forward is not the URL of a receiver; write such as http://localhost:3000/hooks")}
	}
	secrets, err := f.given(endpoint.ParseSecret)
	if err != nil {
		return err
	}
	if len(secrets) > 1 {
		return usageError{errors.New("one secret signs what is forwarded; give one")}
	}
	access := sessionFlags{api: f.api}
	if _, err := access.address(); err != nil {
		return err
	}
	client, err := access.client()
	if err != nil {
		return err
	}
	defer client.Close()
	if err := f.keepsEvents(cmd.Context(), client); err != nil {
		return explain(invalidToken(err, client.Address()))
	}
	return explain(f.forwarding(cmd, client, secrets))
}

// keepsEvents reports why nothing could be forwarded.
func (f *forwardFlags) keepsEvents(ctx context.Context, client *remote.Client) error {
	v, err := client.Installation(ctx, control.Actor{})
	if err != nil {
		return err
	}
	if v.KeepEvents == 0 {
		return usageError{errors.New("this bridge keeps no events, and has none to forward; set state.keep_events there, such as 1d")}
	}
	if f.endpoint == "" {
		return nil
	}
	_, err = client.Endpoint(ctx, control.Actor{}, f.endpoint)
	return missing(err, "endpoint %q does not exist; see gancho endpoints list", f.endpoint)
}

func (f *listenFlags) forwarding(cmd *cobra.Command, client *remote.Client, secrets []endpoint.Secret) error {
	l := speech(cmd)
	secret := endpoint.GenerateSecret()
	signed := said(l, fmt.Sprintf("signed with %s, which was made up for this command, not with the endpoint's secret, which the bridge gives nobody", secret.Reveal()))
	if len(secrets) > 0 {
		secret, signed = secrets[0], said(l, "signed with the secret that you have given, not with the endpoint's, which the bridge gives nobody")
	}
	o := forward.Options{
		Bridge: client, URL: f.forward, Secret: secret, Version: version, Interrupted: passes,
		Filter: state.Filter{Endpoint: f.endpoint, Events: f.events},
	}
	if cmd.Flags().Changed("tenant") {
		o.Filter.Tenant = &f.tenant
	}
	if in, out := cmd.InOrStdin(), cmd.OutOrStdout(); !f.json && fullScreen(in, out) {
		return f.onScreen(cmd, o, signed)
	}
	cmd.PrintErrln(said(l, fmt.Sprintf("forwarding from %s to %s; Ctrl-C ends it", client.Address(), f.forward)))
	cmd.PrintErrln(signed)
	out := cmd.OutOrStdout()
	o.Show = func(e *forward.Exchange) error {
		if f.json {
			return forward.PrintJSON(out, e)
		}
		e.Error = said(l, e.Error)
		return forward.Print(out, e, func(text string) string { return said(l, text) })
	}
	o.Note = func(text string) { cmd.PrintErrln(said(l, text)) }
	forwarder := forward.New(o)
	defer forwarder.Close()
	return forwarder.Run(cmd.Context())
}

// onScreen forwards with a list on the terminal.
func (f *listenFlags) onScreen(cmd *cobra.Command, o forward.Options, signed string) error {
	l := speech(cmd)
	in, _ := cmd.InOrStdin().(*os.File)
	out, _ := cmd.OutOrStdout().(*os.File)
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	exchanges, notes := make(chan *forward.Exchange), make(chan string)
	o.Show = func(e *forward.Exchange) error {
		e.Error = said(l, e.Error)
		select {
		case exchanges <- e:
		case <-ctx.Done():
		}
		return nil
	}
	o.Note = func(text string) {
		select {
		case notes <- said(l, text):
		case <-ctx.Done():
		}
	}
	forwarder := forward.New(o)
	defer forwarder.Close()
	cmd.PrintErrln(signed) // stays when the screen is gone, whole
	screen := forward.NewScreen(in, out, []string{f.forward, signed}, func(text string) string { return said(l, text) })
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer stop()
		return screen.Run(ctx, exchanges, notes, func(e *forward.Exchange) (*forward.Exchange, error) { return forwarder.Resend(ctx, e) })
	})
	group.Go(func() error { return forwarder.Run(ctx) })
	return group.Wait()
}

// passes reports whether an error of a bridge passes by itself.
func passes(err error) bool {
	if answer, ok := errors.AsType[*remote.AnswerError](err); ok {
		return answer.Status >= http.StatusInternalServerError || answer.Status == http.StatusTooManyRequests
	}
	_, away := errors.AsType[*remote.UnreachableError](err)
	return away
}

// fullScreen reports whether both are a terminal that obeys. Windows' old console does not.
func fullScreen(in io.Reader, out io.Writer) bool {
	return isTerminal(in) && isTerminal(out) && os.Getenv("TERM") != "dumb" && (runtime.GOOS != "windows" || os.Getenv("WT_SESSION") != "")
}
