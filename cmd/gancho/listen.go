package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"gancho/delivery/endpoint"
	"gancho/internal/receiver"
)

// listenDrain is how long answers in flight may take after the first signal.
const listenDrain = 5 * time.Second

// secretVariable holds secrets for gancho listen, separated by spaces.
const secretVariable = "GANCHO_SECRET"

type listenFlags struct {
	forwardFlags
	addr     string
	secrets  []string
	json     bool
	status   int
	answer   string
	delay    time.Duration
	failRate float64
}

// newListenCommand is a receiver for trying things.
func newListenCommand() *cobra.Command {
	var f listenFlags
	cmd := &cobra.Command{
		Use:   "listen",
		Short: "Receive webhooks, verify their signatures and print them",
		Long: "Listen receives webhooks on any path, verifies their Standard Webhooks signatures and prints one\n" +
			"line for each event: time, answer, delay from commit to arrival, event, tenant, id, data.\n" +
			"It prints a summary at the end, on Ctrl-C.\n\n" +
			"With --forward it receives nothing itself: it follows a bridge over its API (--api, see gancho login),\n" +
			"and sends what that delivers to its endpoints to a URL of yours, too: the same body, but *** for the\n" +
			"values of its extra, with the headers and signatures that the endpoint's settings ask for, made with a secret of\n" +
			"yours (--secret, $" + secretVariable + ") or one that is made up and printed. The endpoint's own is not used: the bridge\n" +
			"gives it to nobody. An event is forwarded when its delivery has ended; the bridge has to keep events (state.keep_events). On a terminal\n" +
			"there is a list with requests and answers, in which r sends again; otherwise, and with --json, there are lines.",
		Example: "  gancho listen --secret whsec_...\n" +
			"  gancho listen --json | jq .body.data\n" +
			"  gancho listen --fail-rate 0.1 --delay 200ms   # to see retries\n" +
			"  gancho listen --forward http://localhost:3000/hooks --api https://webhooks.example.com:8622 --endpoint crm",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.forward != "" {
				return f.runForward(cmd)
			}
			if err := f.refuseForwarding(cmd); err != nil {
				return err
			}
			return f.run(cmd)
		},
	}
	flags := cmd.Flags()
	f.forwardFlags.register(flags)
	flags.StringVar(&f.addr, "addr", "127.0.0.1:8621", "`host:port` to listen on")
	flags.StringArrayVar(&f.secrets, "secret", nil, "`whsec_...` that signs the webhooks, or whpk_... that verifies them; several while one is rotated (default $"+secretVariable+")")
	flags.BoolVar(&f.json, "json", false, "print one JSON object per line")
	flags.IntVar(&f.status, "status", http.StatusOK, "HTTP `status` of the answers")
	flags.StringVar(&f.answer, "answer", "", "`body` of the answers, such as '{\"status\":200}' for the style superlogica")
	flags.DurationVar(&f.delay, "delay", 0, "how long each answer takes")
	flags.Float64Var(&f.failRate, "fail-rate", 0, "`share` of requests, 0 to 1, answered 500")
	return cmd
}

// options checks the flags.
func (f *listenFlags) options() (receiver.Options, error) {
	o := receiver.Options{Status: f.status, Answer: f.answer, Delay: f.delay, FailRate: f.failRate}
	switch {
	case f.status < 200 || f.status > 599:
		return o, usageError{fmt.Errorf("--status %d is not the status of an answer; use 200 to 599", f.status)}
	case f.delay < 0:
		return o, usageError{fmt.Errorf("--delay %s is negative; use a duration such as 200ms", f.delay)}
	case !(f.failRate >= 0 && f.failRate <= 1):
		return o, usageError{fmt.Errorf("--fail-rate %g is not a share; use a number from 0 to 1", f.failRate)}
	}
	var err error
	o.Secrets, err = f.given(endpoint.ParseVerifier)
	return o, err
}

// given are the secrets of the flags, or else of the environment.
func (f *listenFlags) given(parse func(string) (endpoint.Secret, error)) (all []endpoint.Secret, err error) {
	secrets, from := f.secrets, "--secret"
	if len(secrets) == 0 {
		secrets, from = strings.Fields(os.Getenv(secretVariable)), "$"+secretVariable
	}
	for _, text := range secrets {
		s, err := parse(text)
		if err != nil {
			return nil, usageError{fmt.Errorf("%s: %w", from, err)}
		}
		all = append(all, s)
	}
	return all, nil
}

// run serves until the command's context ends or a line cannot be printed.
func (f *listenFlags) run(cmd *cobra.Command) error {
	options, err := f.options()
	if err != nil {
		return err
	}
	out, l := cmd.OutOrStdout(), speech(cmd)
	say := func(text string) string { return said(l, text) }
	ctx, stop := context.WithCancelCause(cmd.Context())
	defer stop(nil)
	options.Handle = func(d receiver.Delivery) {
		show := func() error { return receiver.Print(out, d, say) }
		if f.json {
			show = func() error { return receiver.PrintJSON(out, d) }
		}
		if err := show(); err != nil {
			stop(fmt.Errorf("print webhook: %w", err))
		}
	}
	r := receiver.New(options)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; choose another address with --addr", f.addr, err)
	}
	cmd.PrintErrln(say(fmt.Sprintf("listening on http://%s; Ctrl-C ends it", listener.Addr())))
	if len(options.Secrets) == 0 {
		cmd.PrintErrln(say("signatures are not checked: give --secret or $" + secretVariable))
	}
	err = serve(ctx, listener, r)
	s := r.Summary()
	cmd.PrintErrln(s.Text(say))
	if cmd.Context().Err() == nil && err == nil {
		err = context.Cause(ctx)
	}
	return err
}

// serve answers on the listener until ctx ends, and then waits up to listenDrain
// for answers in flight.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), listenDrain)
		defer cancel()
		if server.Shutdown(drain) != nil {
			return server.Close() // cuts answers that take longer, as a second signal would
		}
		return nil
	})
	return group.Wait()
}
