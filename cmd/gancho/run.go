package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	stdlog "log" //nolint:depguard // net/http prints to it
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/config"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/bridge"
	"gancho/internal/doctor"
	"gancho/internal/mail"
	"gancho/internal/state"
	"gancho/internal/systemd"
	"gancho/internal/tracing"
	"gancho/mapping"
)

// runFlags are the flags of gancho run.
type runFlags struct {
	config       string
	create       bool
	acceptSource bool
	only         string
	cpuProfile   string
}

func newRunCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the bridge: capture changes and deliver webhooks",
		Long: `Run the bridge until SIGINT or SIGTERM, which drains requests in flight; a second signal kills it.
SIGHUP reloads the configuration's rules, endpoints and tracing, all or nothing.

A second process on the same slot waits and takes over when the first ends;
meanwhile both deliver. A process with --only deliver delivers, and captures nothing.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"", onlyCapture, onlyDeliver}, f.only) {
				return usageError{fmt.Errorf("--only %q: write %s or %s", f.only, onlyCapture, onlyDeliver)}
			}
			stop, err := startProfile(f.cpuProfile)
			if err != nil {
				return err
			}
			defer stop()
			return f.run(cmd.Context(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	registerConfig(flags, &f.config)
	flags.BoolVar(&f.create, "create", false, "create the slot and the publication when they are missing, and add missing tables to it")
	flags.BoolVar(&f.acceptSource, "accept-source", false, "accept that the source is another server or the slot was recreated (positions start a new epoch)")
	flags.StringVar(&f.only, "only", "", "run one part: capture or deliver")
	flags.StringVar(&f.cpuProfile, "cpuprofile", "", "write a CPU profile to the `file`")
	if err := flags.MarkHidden("cpuprofile"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

const (
	onlyCapture = "capture"
	onlyDeliver = "deliver"
)

func (f *runFlags) run(ctx context.Context, stderr io.Writer) error {
	o, err := f.options(stderr)
	if err != nil {
		return fileError{err}
	}
	defer raiseHeapFloor()()
	redis.SetLogger(redisLog{o.Log})
	stdlog.SetFlags(0)
	stdlog.SetOutput(standardLog{o.Log})
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	o.Reload = hangup
	o.Service = systemd.NewNotifier(os.LookupEnv, os.Getpid())
	defer o.Service.Close()
	return bridge.Run(ctx, *o)
}

// options are the configuration's and the flags'.
func (f *runFlags) options(stderr io.Writer) (*bridge.Options, error) {
	c, err := config.Load(f.config, variable)
	if err != nil {
		return nil, err
	}
	log, err := newLogger(stderr, c.Log.Level)
	if err != nil {
		return nil, err
	}
	st, err := stateOptions(c)
	if err != nil {
		return nil, err
	}
	certificate, err := openCertificate(c.HTTP.TLS, log)
	if err != nil {
		return nil, err
	}
	pages, err := consoleOptions(&c.Console, log)
	if err != nil {
		return nil, err
	}
	mails, err := mailOptions(c)
	if err != nil {
		return nil, err
	}
	for _, warning := range c.Warnings() {
		log.Warn().Msg(warning)
	}
	current := &currentConfig{}
	current.Store(c)
	return &bridge.Options{
		Source: cdc.Options{
			DSN: c.Source.DSN.Reveal(), Slot: c.Source.Slot, Publication: c.Source.Publication, Create: f.create, Log: log,
			Encoding: cdc.Encoding(c.Source.Encoding),
		},
		LookupDSN:         houseLookups(c),
		Sources:           current.sources(),
		TransactionMemory: c.Mapping.TransactionMemory,
		Location:          c.Source.Location,
		AcceptSource:      f.acceptSource,
		Queue:             queueOptions(&c.Queue),
		KeepParked:        c.Queue.KeepParked,
		MaxMemoryPercent:  c.Queue.MaxMemoryPercent,
		Capture:           f.only != onlyDeliver,
		Deliver:           f.only != onlyCapture,
		Listen:            c.HTTP.Listen,
		MetricsListen:     c.HTTP.Metrics,
		MetricsToken:      c.HTTP.MetricsToken.Reveal(),
		Certificate:       certificate,
		Console:           pages,
		ConsoleURL:        c.Console.PublicURL,
		Quotas:            quotas(&c.Quotas),
		Requests:          c.Quotas.Tenant.Requests,
		TotalRequests:     c.Quotas.Total.Requests,
		Shutdown:          c.Shutdown,
		Version:           version,
		ConfigFile:        c.File,
		Revision:          revision(),
		Log:               log,
		LagWarning:        c.Source.LagWarning,
		WALBudget:         c.Source.WALBudget,
		DropOverBudget:    c.Source.DropSlot,
		State:             st,
		Mails:             mails,
		Doctor:            func(ctx context.Context, source string) (doctor.Report, error) { return examine(ctx, f.config, source) },
		Load: func() (*bridge.Definitions, error) {
			// Not c: at a reload the file has changed.
			c, err := config.Load(f.config, variable)
			if err != nil {
				return nil, fileError{err}
			}
			d, err := definitions(c)
			if err != nil {
				return nil, fileError{err}
			}
			if (c.Sources == nil) != (current.Load().Sources == nil) {
				return nil, fileError{fmt.Errorf("%s: one source became several, or several one; restart the bridge", c.File)}
			}
			current.Store(c)
			return d, nil
		},
	}, nil
}

// houseLookups is where names of tenants are read: as lookups are, and of many databases in the one of cluster.dsn.
func houseLookups(c *config.Config) string {
	if c.Sources != nil && c.Sources.Cluster != nil {
		return cmp.Or(c.Sources.Cluster.LookupDSN, c.Sources.Cluster.DSN).Reveal()
	}
	return cmp.Or(c.Source.LookupDSN, c.Source.DSN).Reveal()
}

// definitions are the rules and the endpoints of a configuration.
func definitions(c *config.Config) (*bridge.Definitions, error) {
	rules, err := parseRules(c)
	if err != nil {
		return nil, err
	}
	if _, err := stateOptions(c); err != nil {
		return nil, err
	}
	return &bridge.Definitions{Rules: rules, Endpoints: c.Endpoints, Tracing: collector(&c.Tracing)}, nil
}

// collector is where the configuration has spans go.
func collector(t *config.Tracing) tracing.Collector {
	c := tracing.Collector{URL: t.OTLP, Sample: t.Sample, Headers: map[string]string{}}
	for name, value := range t.Headers {
		c.Headers[name] = value.Reveal()
	}
	return c
}

func parseRules(c *config.Config) (*mapping.Rules, error) { return mapping.Parse(ruleOptions(c)) }

// ruleOptions are what the rules of a configuration are read with.
func ruleOptions(c *config.Config) mapping.Options {
	policy := mapping.Stop
	if c.Source.OnSchemaChange == "park" {
		policy = mapping.Park
	}
	secrets := map[string][]byte{}
	for name, secret := range c.Privacy.Secrets {
		secrets[name] = []byte(secret.Reveal())
	}
	evaluate := mapping.EvaluateAny
	if c.Mapping.EvaluateLocal {
		evaluate = mapping.EvaluateLocal
	}
	return mapping.Options{
		Evaluate: evaluate,
		Files:    c.Rules, Deny: c.Privacy.Deny, Reader: lookupRole(c), Secrets: secrets, Location: c.Source.Location, OnSchemaChange: policy,
		Publication: c.Source.Publication, Encoding: cdc.Encoding(c.Source.Encoding),
	}
}

// lookupRole asks for the role of source.lookup_dsn; nil: that of source.dsn.
func lookupRole(c *config.Config) func(context.Context) (string, error) {
	dsn := c.Source.LookupDSN
	if c.Sources != nil && c.Sources.Cluster != nil {
		dsn = c.Sources.Cluster.LookupDSN // it is one role for all
	}
	if dsn == "" {
		return nil
	}
	return func(ctx context.Context) (string, error) {
		lookup := mapping.NewSource(dsn.Reveal(), cdc.Encoding(c.Source.Encoding), zerolog.Nop())
		defer lookup.Close(ctx)
		role, err := lookup.Login(ctx)
		if err != nil {
			err = fmt.Errorf("connect to source.lookup_dsn: %w", err)
		}
		return role, err
	}
}

// stateOptions say where Gancho's own database is; nil: the configuration has
// no state.key.
func stateOptions(c *config.Config) (*bridge.StateOptions, error) {
	if !c.State.On() {
		return nil, nil // there is no state, which is no mistake
	}
	keys, err := state.ParseKeys(c.State.Key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%s:%d: state.key: %w", c.File, c.State.KeyLine, err)
	}
	return &bridge.StateOptions{
		DSN: stateDSN(c), Keyring: keys, KeepEvents: c.State.KeepEvents, KeepChanges: c.State.KeepChanges, KeepLog: c.State.KeepLog, KeepDead: c.State.KeepDead,
		KeepAnswers: keepAnswers(c.State.KeepAnswers),
	}, nil
}

// mailOptions say who is told of trouble by e-mail; nil: nobody.
func mailOptions(c *config.Config) (*bridge.Mails, error) {
	n := &c.Notify
	if n.SMTP == "" {
		return nil, nil // the configuration names nobody
	}
	sender, err := mail.New(mail.Options{URL: n.SMTP.Reveal(), From: n.From})
	if err != nil {
		return nil, fmt.Errorf("%s: notify: %w; write smtp: smtp://user:password@mail.example.com:587, with %%40 for an @ in the password", c.File, err)
	}
	return &bridge.Mails{Sender: sender, To: n.To, Tenants: n.Tenants}, nil
}

// keepAnswers are the attempts that state.keep_answers chooses.
func keepAnswers(setting string) webhook.Keeps {
	switch setting {
	case "all":
		return webhook.KeepAll
	case "off":
		return webhook.KeepNone
	}
	return webhook.KeepFailed
}

// queueOptions say where the configuration's Redis is.
func queueOptions(c *config.Queue) queue.Options {
	o := queue.Options{URL: c.Redis.Reveal(), Prefix: c.Prefix, AllowVolatile: c.AllowVolatile}
	if s := c.Sentinel; s != nil {
		o.Sentinel = &queue.SentinelOptions{
			Master: s.Master, Addresses: s.Addresses, User: s.User, Password: s.Password.Reveal(),
			SentinelUser: s.SentinelUser, SentinelPassword: s.SentinelPassword.Reveal(), DB: s.DB, TLS: s.TLS,
		}
	}
	if k := c.Cluster; k != nil {
		o.Cluster = &queue.ClusterOptions{Addresses: k.Addresses, User: k.User, Password: k.Password.Reveal(), TLS: k.TLS}
	}
	return o
}

// newLogger logs for people on a terminal and JSON otherwise, with levels of the journal where that reads.
func newLogger(w io.Writer, level string) (zerolog.Logger, error) {
	l, err := zerolog.ParseLevel(level)
	if err != nil {
		return zerolog.Nop(), fmt.Errorf("log.level: %w", err)
	}
	if j, is := systemd.NewJournal(w, os.LookupEnv); is {
		w = j
	} else if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		w = zerolog.ConsoleWriter{Out: f, TimeFormat: "15:04:05.000"}
	}
	return zerolog.New(w).Level(l).Hook(stamp{}), nil
}

// stamp adds the time in milliseconds. The library's own has whole seconds, or a format that is
// one variable for all loggers, which commands in one process race for.
type stamp struct{}

// Run implements zerolog.Hook.
func (stamp) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().Format("2006-01-02T15:04:05.000Z07:00"))
}

// redisLog receives what the Redis library would print to stderr; what matters
// of it is also returned as errors.
type redisLog struct{ zerolog.Logger }

// Printf implements the library's logger.
func (l redisLog) Printf(_ context.Context, format string, v ...any) {
	l.Debug().Str("library", "go-redis").Msgf(format, v...)
}

// standardLog receives what Go's own packages print with package log: net/http, what a
// receiver sends unasked over an idle connection. Quotations of it are left out.
type standardLog struct{ zerolog.Logger }

// Write implements io.Writer.
func (l standardLog) Write(line []byte) (int, error) {
	text, _, _ := strings.Cut(string(line), `"`)
	l.Debug().Str("library", "go").Msg(strings.TrimSpace(text))
	return len(line), nil
}

// startProfile writes a CPU profile until the returned func is called.
func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close() // a truncated profile is an error to its reader
	}, nil
}
