package config

import (
	"slices"
	"strings"
	"time"

	"gancho/delivery/endpoint"
	"gancho/internal/strictyaml"
)

const (
	defaultWalsenders = 8
	maxWalsenders     = 1000
	defaultVisit      = time.Minute
	minVisit          = time.Second
	maxVisit          = time.Hour
)

// sourceForms read one of the three forms in which a file says what is read.
type sourceForms struct {
	fields []strictyaml.Field
	given  []string
	list   value // of sources
}

func (c *Config) sourceForms() *sourceForms {
	f := &sourceForms{}
	form := func(name string, decode func(value)) {
		f.fields = append(f.fields, strictyaml.Optional(name, func(v value) {
			f.given = append(f.given, name)
			decode(v)
		}))
	}
	form("source", c.Source.decode)
	form("sources", func(v value) { f.list = c.decodeSources(v) })
	form("cluster", c.decodeCluster)
	return f
}

// check records a mistake of v, the whole file, if the forms are not exactly one.
func (f *sourceForms) check(v value) {
	switch {
	case !v.IsMap():
	case len(f.given) == 0:
		v.Errorf("for many databases write sources or cluster instead", `the key "source" is missing`)
	case len(f.given) > 1:
		v.Errorf("keep the one that names all that is read", `"%s" are given, and they exclude each other`, strings.Join(f.given, `" and "`))
	}
}

// decodeSources reads a list of databases, alone or as list: beside what holds for all. It returns the list.
func (c *Config) decodeSources(v value) (list value) {
	c.Sources = newSources()
	if list = v; v.IsMap() {
		list = value{}
		c.Source.decodeWith(v, append(c.Sources.fields(), strictyaml.Required("list", func(v value) { list = v }))...)
	}
	c.Sources.decodeList(list)
	return list
}

func newSources() *Sources { return &Sources{Walsenders: defaultWalsenders, Visit: defaultVisit} }

// fields are the keys of how many databases are read.
func (s *Sources) fields() []strictyaml.Field {
	return []strictyaml.Field{
		strictyaml.Optional("walsenders", func(v value) { s.Walsenders = v.Int(1, maxWalsenders) }),
		strictyaml.Optional("visit", func(v value) { s.Visit = v.Duration(minVisit, maxVisit) }),
	}
}

func (s *Sources) decodeList(list value) {
	if !list.Valid() {
		return
	}
	items := list.List()
	if list.IsList() && len(items) == 0 {
		list.Errorf("write such as - {name: centro, dsn: \"${CENTRO_DSN}\"}", "no source is listed")
	}
	for _, item := range items {
		d := decodeDatabase(item)
		for _, other := range s.Listed {
			switch {
			case d.Name != "" && d.Name == other.Name:
				item.Errorf("give one of them another name", "there are two sources with the name %q", d.Name)
			case d.DSN != "" && d.DSN == other.DSN:
				item.Errorf("keep one of them, or each event leaves twice", "the source %q has the dsn of %q", d.Name, other.Name)
			}
		}
		s.Listed = append(s.Listed, d)
	}
}

func decodeDatabase(v value) (d Database) {
	v.Map(
		strictyaml.Required("name", func(v value) {
			d.Name = v.Text()
			if d.Name != "" && !sourceName.MatchString(d.Name) {
				v.Errorf("use up to 48 lower-case letters, digits, _ and -, such as centro", "%q cannot be the name of a source", d.Name)
			}
		}),
		strictyaml.Required("dsn", func(v value) { d.DSN = decodeDSN(v) }),
		strictyaml.Optional("lookup_dsn", func(v value) { d.LookupDSN = decodeDSN(v) }),
		strictyaml.Optional("slot", func(v value) { d.Slot = slotName(v) }),
	)
	return d
}

func (c *Config) decodeCluster(v value) {
	c.Sources = newSources()
	k := &SourceCluster{}
	c.Sources.Cluster = k
	var ways []string
	c.Source.decodeWith(v, append(c.Sources.fields(),
		strictyaml.Required("dsn", func(v value) { k.DSN = decodeDSN(v) }),
		strictyaml.Optional("lookup_dsn", func(v value) { k.LookupDSN = decodeDSN(v) }),
		strictyaml.Optional("databases", func(v value) { ways, k.Databases = append(ways, "databases"), databasePatterns(v) }),
		strictyaml.Optional("sql", func(v value) { ways, k.SQL = append(ways, "sql"), v.Text() }),
		strictyaml.Optional("except", func(v value) { k.Except = databasePatterns(v) }),
	)...)
	switch {
	case !v.IsMap():
	case len(ways) == 0:
		v.Errorf(`write such as databases: "cliente_*", or sql: "select datname from pg_database where ..."`, `the key "databases" is missing`)
	case len(ways) > 1:
		v.Errorf("keep the one that names the databases", `"databases" and "sql" are both given`)
	}
}

// databasePatterns are names as PostgreSQL has them, with * for any run of characters.
func databasePatterns(v value) []string {
	patterns := v.Texts()
	if v.IsList() && len(patterns) == 0 {
		v.Errorf("write such as cliente_*", "no database is named")
	}
	return patterns
}

// finishSources completes sources when all is read, and records mistakes between them and the rest of the file.
func (c *Config) finishSources(list, state, console, endpoints value) {
	s := c.Sources
	if s == nil {
		for i := range c.Endpoints {
			if len(c.Endpoints[i].Sources) > 0 {
				endpoints.List()[i].Errorf("remove it; a bridge that reads many databases has sources or cluster in the place of source", "endpoint %q chooses sources, and there is one only", c.Endpoints[i].Name)
			}
		}
		return
	}
	s.slot, s.prefix = c.Source.Slot, c.Queue.Prefix
	for i := range s.Listed {
		s.Listed[i] = s.named(s.Listed[i])
		for _, other := range s.Listed[:i] {
			if d := &s.Listed[i]; d.Slot == other.Slot && d.Name != other.Name {
				list.List()[i].Errorf("give one of them another with slot:", "the sources %q and %q have the same slot, by which Gancho's own tables know them", other.Name, d.Name)
			}
		}
	}
	if c.State.On() && c.State.DSN == "" {
		state.Errorf("write dsn: with a database for them", "Gancho's own tables would be in each of many databases")
	}
	if s.Cluster == nil && c.Console.Tenants.SQL != "" {
		console.Errorf("write list: with their names", "console.tenants has sql, and there is no database that knows the tenants of all sources")
	}
	if s.Cluster == nil {
		c.checkChosen(endpoints)
	}
}

// checkChosen records the endpoints that choose none of the sources that are listed.
func (c *Config) checkChosen(endpoints value) {
	var names []string
	for _, d := range c.Sources.Listed {
		names = append(names, d.Name)
	}
	for i := range c.Endpoints {
		for _, pattern := range c.Endpoints[i].Sources {
			if pattern != "" && !slices.ContainsFunc(names, func(name string) bool { return endpoint.Covers(pattern, name) }) {
				endpoints.List()[i].Errorf(closestSource(pattern, names), "endpoint %q chooses sources that are not there: %q", c.Endpoints[i].Name, pattern)
			}
		}
	}
}

// closestSource is a hint at the name that is meant.
func closestSource(name string, names []string) string {
	if closest := strictyaml.Closest(name, names); closest != "" {
		return `did you mean "` + closest + `"?`
	}
	return "the sources are " + strings.Join(names[:min(len(names), 5)], ", ")
}
