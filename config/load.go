package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gancho/delivery/endpoint"
	"gancho/internal/jsonschema"
	"gancho/internal/strictyaml"
)

type value = strictyaml.Value

// Load reads a configuration file. The env function looks up the variables that
// the file names, as os.LookupEnv does; rule files are found relative to the
// file. When anything is wrong the error is a strictyaml.Errors, with all of it.
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w; name the file with --config", err)
	}
	return Parse(path, src, env)
}

// LoadRules is Load for what rules depend on alone: the source's settings but for where it
// is, mapping, privacy and the rule files. Nothing else is checked, and variables that are
// not set are no mistake: no server is reached with what stands in for them.
func LoadRules(path string, env func(string) (string, bool)) (*Config, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w; name the file with --config", err)
	}
	d := strictyaml.Parse(path, src, func(name string) (string, bool) {
		if value, set := env(name); set {
			return value, true
		}
		return "postgres://unset.invalid/" + name, true
	})
	c := defaults()
	c.File = path
	other := func(value) {}
	where := c.sourceForms()
	d.Root().Map(append(where.fields,
		strictyaml.Optional("mapping", c.Mapping.decode),
		strictyaml.Optional("privacy", c.Privacy.decode),
		strictyaml.Required("rules", c.decodeRules),
		strictyaml.Optional("queue", other), strictyaml.Optional("state", other), strictyaml.Optional("http", other), strictyaml.Optional("console", other),
		strictyaml.Optional("quotas", other), strictyaml.Optional("notify", other), strictyaml.Optional("tracing", other), strictyaml.Optional("log", other), strictyaml.Optional("doctor", other), strictyaml.Optional("shutdown", other), strictyaml.Optional("endpoints", other),
	)...)
	where.check(d.Root())
	if err := c.complete(d); err != nil {
		return nil, err
	}
	return c, nil
}

// LoadHTTP reads of a configuration file where its bridge listens, for those who ask the one that runs: what else is in the file, and
// whether a certificate that is being renewed has its key already, is no matter.
func LoadHTTP(path string, env func(string) (string, bool)) (*HTTP, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w; name the file with --config", err)
	}
	d := strictyaml.Parse(path, src, env)
	h := defaults().HTTP
	if d.Root().IsMap() {
		for _, entry := range d.Root().Entries() {
			if entry.Name == "http" {
				h.decode(entry.Value, path)
			}
		}
	}
	return &h, d.Errors().Err()
}

// Inspect is Load for those who look for mistakes: with the error it returns what of the
// configuration could be read, the rest at its defaults. It is nil if the file cannot be read.
func Inspect(path string, env func(string) (string, bool)) (*Config, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w; name the file with --config", err)
	}
	return inspect(path, src, env)
}

// Parse is Load for a text that has been read already; name is the file's.
func Parse(name string, src []byte, env func(string) (string, bool)) (*Config, error) {
	c, err := inspect(name, src, env)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func inspect(name string, src []byte, env func(string) (string, bool)) (*Config, error) {
	d := strictyaml.Parse(name, src, env)
	c := defaults()
	c.File = name
	if !d.Root().Valid() && len(d.Errors()) == 0 {
		d.Add("it needs at least source.dsn, queue.redis and rules", "the file is empty")
	}
	c.decode(d.Root())
	return c, c.complete(d)
}

// Schema returns the JSON Schema of gancho.yaml.
func Schema() *jsonschema.Schema {
	return strictyaml.Schema("gancho.yaml", true, func(v value) { defaults().decode(v) })
}

func (c *Config) decode(v value) {
	var state, console, endpoints value
	where := c.sourceForms()
	v.Map(append(where.fields,
		strictyaml.Required("queue", c.Queue.decode),
		strictyaml.Optional("state", func(v value) { state = v; c.State.decode(v) }),
		strictyaml.Optional("http", func(v value) { checkTLS(c.HTTP.decode(v, c.File), c.HTTP.TLS) }),
		strictyaml.Optional("console", func(v value) { console = v; c.Console.decode(v, c.File) }),
		strictyaml.Optional("quotas", c.Quotas.decode),
		strictyaml.Optional("notify", c.Notify.decode),
		strictyaml.Optional("tracing", c.Tracing.decode),
		strictyaml.Optional("mapping", c.Mapping.decode),
		strictyaml.Optional("privacy", c.Privacy.decode),
		strictyaml.Optional("log", c.Log.decode),
		strictyaml.Optional("shutdown", func(v value) { c.Shutdown = v.Duration(0, time.Hour) }),
		strictyaml.Optional("doctor", c.Doctor.decode),
		strictyaml.Required("rules", c.decodeRules),
		strictyaml.Optional("endpoints", func(v value) { endpoints, c.Endpoints = v, endpoint.DecodeList(v) }),
	)...)
	where.check(v)
	c.finishSources(where.list, state, console, endpoints)
	for i := range c.Endpoints {
		if c.Endpoints[i].Closing != 0 && (!c.State.On() || c.State.KeepLog == 0) {
			endpoints.List()[i].Errorf("write state: {key: ...}, without keep_log: off, or leave closing out", "endpoint %q has a closing, which is made from the delivery log, and there is none", c.Endpoints[i].Name)
		}
	}
}

// complete ends the reading of a document, and returns its mistakes.
func (c *Config) complete(d *strictyaml.Document) error {
	if c.Source.Location == nil {
		var err error
		if c.Source.Location, err = time.LoadLocation(defaultTimezone); err != nil {
			return fmt.Errorf("load the default time zone: %w; install the package tzdata or write source.timezone", err)
		}
	}
	return d.Errors().Err()
}

func (s *Source) decode(v value) {
	s.decodeWith(v,
		strictyaml.Required("dsn", func(v value) { s.DSN = decodeDSN(v) }),
		strictyaml.Optional("lookup_dsn", func(v value) { s.LookupDSN = decodeDSN(v) }),
	)
}

// decodeWith reads what can hold for many databases, and the other keys.
func (s *Source) decodeWith(v value, others ...strictyaml.Field) {
	var onBudget value
	v.Map(append(others,
		strictyaml.Optional("slot", func(v value) { s.Slot = slotName(v) }),
		strictyaml.Optional("publication", func(v value) { s.Publication = publicationName(v) }),
		strictyaml.Optional("timezone", func(v value) { s.Location = decodeLocation(v) }),
		strictyaml.Optional("on_schema_change", func(v value) { s.OnSchemaChange = v.Choice("stop", "park") }),
		strictyaml.Optional("encoding", func(v value) { s.Encoding = v.Choice("latin1", "win1252", "utf8") }),
		strictyaml.Optional("lag_warning", func(v value) { s.LagWarning = v.Bytes(1<<20, 1<<50) }),
		strictyaml.Optional("wal_budget", func(v value) { s.WALBudget = v.Bytes(1<<20, 1<<50) }),
		strictyaml.Optional("on_budget", func(v value) { onBudget, s.DropSlot = v, v.Choice("alert", "drop_slot") == "drop_slot" }),
		strictyaml.Refused("heartbeat", `"heartbeat" comes with a later version`, "remove it"),
	)...)
	if onBudget.Valid() && s.WALBudget == 0 {
		onBudget.Errorf("write wal_budget: with how much WAL the source may hold, such as 20GB", "on_budget needs a budget")
	}
}

// slotName: https://www.postgresql.org/docs/current/warm-standby.html#STREAMING-REPLICATION-SLOTS-MANIPULATION
func slotName(v value) string {
	s := v.Text()
	if len(s) > 63 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		v.Errorf("use lower-case letters, digits and _, at most 63 of them", "%q cannot be the name of a slot", s)
	}
	return s
}

// publicationName leaves room for the suffix of the publication of inserts (_insert).
func publicationName(v value) string {
	s := v.Text()
	if len(s) > 56 || strings.ContainsAny(s, "\x00\n\r\"',") {
		v.Errorf("use at most 56 bytes, without quotes and commas", "%q cannot be the name of a publication", s)
	}
	return s
}

func decodeLocation(v value) *time.Location {
	name := v.Text()
	location, err := time.LoadLocation(name)
	if name != "" && (err != nil || name == "Local") {
		v.Errorf("write a name of the IANA database, such as America/Sao_Paulo", "unknown time zone %q", name)
	}
	return location // of a configuration that is returned: the name was valid
}

// maxKeep bounds how long events and the log are kept.
const maxKeep = 3650 * 24 * time.Hour

// defaultKeepEvents is how long events are kept in a database of Gancho's own.
const defaultKeepEvents = 7 * 24 * time.Hour

// defaultKeepFailed is how long what could not be delivered is kept, and the least is
// what people need to notice it.
const (
	defaultKeepFailed = 90 * 24 * time.Hour
	minKeepFailed     = 24 * time.Hour
)

// keepFailed reads how long dead letters or parked changes are kept; 0: for ever.
func keepFailed(v value) time.Duration {
	if v.Is("forever") {
		return 0
	}
	return v.Duration(minKeepFailed, maxKeep)
}

func (s *State) decode(v value) {
	keep := func(v value) time.Duration {
		if v.Is("off") {
			return 0
		}
		return v.Duration(0, maxKeep)
	}
	var changes value
	events := false
	v.Map(
		strictyaml.Optional("dsn", func(v value) { s.DSN = decodeDSN(v) }),
		strictyaml.Optional("key", func(v value) { s.Key, s.KeyLine = Secret(v.Text()), v.Line() }),
		strictyaml.Optional("keep_events", func(v value) { s.KeepEvents, events = keep(v), true }),
		strictyaml.Optional("keep_changes", func(v value) { s.KeepChanges, changes = v.Bool(), v }),
		strictyaml.Optional("keep_log", func(v value) { s.KeepLog = keep(v) }),
		strictyaml.Optional("keep_answers", func(v value) { s.KeepAnswers = v.Choice("failed", "all", "off") }),
		strictyaml.Optional("keep_dead", func(v value) { s.KeepDead = keepFailed(v) }),
	)
	if v.IsMap() && s.KeyLine == 0 {
		v.Errorf("write such as key: ${GANCHO_STATE_KEY}; make one with: gancho secrets generate-key", `the key "key" is missing, which encrypts what is stored`)
	}
	if !events && s.DSN != "" {
		s.KeepEvents = defaultKeepEvents
	}
	if s.KeepChanges && s.KeepEvents == 0 {
		changes.Errorf("write keep_events: 7d beside it, or leave out keep_changes", "changes are kept beside kept events, and none are kept")
	}
}

// maxTransactionMemory bounds mapping.transaction_memory, in bytes.
const maxTransactionMemory = 64 << 30

func (m *Mapping) decode(v value) {
	v.Map(strictyaml.Optional("transaction_memory", func(v value) { m.TransactionMemory = v.Bytes(1<<16, maxTransactionMemory) }))
}

func (p *Privacy) decode(v value) {
	v.Map(
		strictyaml.Optional("deny", func(v value) {
			for _, item := range v.List() {
				s := item.Text()
				if s != "" && !strings.Contains(s, ".") {
					item.Errorf("write table.column", "%q names no table", s)
				}
				p.Deny = append(p.Deny, s)
			}
		}),
		strictyaml.Optional("secrets", func(v value) { p.Secrets = decodeSecrets(v) }),
	)
}

// minKey is the least number of bytes of a key of hmac(): a short one can be found
// by brute force, and with it the values behind the hashes.
const minKey = 16

func decodeSecrets(v value) map[string]Secret {
	secrets := map[string]Secret{}
	for _, e := range v.Entries() {
		if e.Name == "" {
			e.Key.Errorf("name it", "the name of a secret is empty")
		}
		s := e.Value.Text()
		if s != "" && len(s) < minKey {
			e.Value.Errorf("make one with: openssl rand -hex 32", "the secret has less than %d bytes", minKey)
		}
		secrets[e.Name] = Secret(s)
	}
	return secrets
}

func (l *Log) decode(v value) {
	v.Map(strictyaml.Optional("level", func(v value) { l.Level = v.Choice("trace", "debug", "info", "warn", "error") }))
}

// decodeRules reads the rule files, alone or as {files: ..., evaluate: ...}.
func (c *Config) decodeRules(v value) {
	if !v.IsMap() {
		c.Rules = ruleFiles(v)
		return
	}
	v.Map(
		strictyaml.Required("files", func(v value) { c.Rules = ruleFiles(v) }),
		strictyaml.Optional("evaluate", func(v value) { c.Mapping.EvaluateLocal = v.Choice("any", "local") == "local" }),
	)
}

// ruleFiles resolves the patterns of rule files.
func ruleFiles(v value) []string {
	var files []string
	items := v.ListOrOne()
	if len(items) == 0 {
		v.Errorf("write such as rules: [rules/*.yaml]", "no rule files are named")
	}
	for _, item := range items {
		pattern := item.Text()
		if pattern == "" {
			continue
		}
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(item.File()), pattern)
		}
		matches, err := filepath.Glob(pattern)
		switch {
		case err != nil:
			item.Errorf("write such as rules/*.yaml", "%q is not a file name pattern", item.Text())
		case len(matches) == 0:
			item.Errorf("file names are relative to this file", "no rule file matches %q", item.Text())
		}
		for _, m := range matches {
			if !slices.Contains(files, m) {
				files = append(files, m)
			}
		}
	}
	return files
}
