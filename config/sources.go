package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"time"
)

// Sources are the databases that one bridge reads by the same rules, where there are several. What holds for all of them is in Config.Source,
// whose DSN is empty then.
type Sources struct {
	// Listed are those of sources, in the order of the file.
	Listed []Database `json:",omitempty"`
	// Cluster finds them in the catalogue of a server; nil: they are listed.
	Cluster *SourceCluster `json:",omitempty"`
	// Walsenders is the most databases that are streamed at once; the others are visited.
	Walsenders int
	// Visit is how long the changes of a database wait at most for a visit.
	Visit time.Duration
	// slot and prefix are those that the names of each source begin with.
	slot, prefix string
}

// SourceCluster are databases of one PostgreSQL server.
type SourceCluster struct {
	// DSN is of any database of the server: where the others are found. LookupDSN is the same of the server for lookups; empty: DSN.
	DSN, LookupDSN Secret
	// Databases are names, in which * stands for any run of characters; none: SQL returns them, in its first column.
	Databases []string
	SQL       string
	// Except are patterns of those that are not read.
	Except []string
}

// Database is one of several sources.
type Database struct {
	// Name identifies it everywhere: in the names of slots and keys, in tenants, in what endpoints choose and commands are told.
	Name string
	DSN  Secret
	// LookupDSN is for the rules' lookups; empty: DSN.
	LookupDSN Secret
	Slot      string
	// QueuePrefix begins the name of its every key in Redis.
	QueuePrefix string
}

// Of returns the source that a database of the cluster is.
func (s *Sources) Of(database string) Database {
	d := Database{Name: SourceName(database), DSN: InDatabase(s.Cluster.DSN, database)}
	if s.Cluster.LookupDSN != "" {
		d.LookupDSN = InDatabase(s.Cluster.LookupDSN, database)
	}
	return s.named(d)
}

// named adds what a source's name says.
func (s *Sources) named(d Database) Database {
	d.Slot = cmp.Or(d.Slot, SlotOf(s.slot, d.Name))
	d.QueuePrefix = PrefixOf(s.prefix, d.Name)
	return d
}

const (
	maxSourceName = 48 // bytes
	maxSlot       = 63 // bytes, of PostgreSQL
	// digestSize is the length of the digest of a name that was changed: two of 300 are alike by a chance of 1 in 10^7.
	digestSize = 10
)

var (
	sourceName = regexp.MustCompile(`^[a-z0-9_-]{1,48}$`)
	digested   = regexp.MustCompile(`[_-][0-9a-f]{10}$`)
	folded     = regexp.MustCompile(`[^a-z0-9]+`)
)

// SourceName is the name of the source that a database is: its own, if it is up to 48 of a-z, 0-9, _ and -. Another is folded, and a
// digest of it put behind, so that no two databases have one name; and the same is done to a name that ends as if it were folded.
func SourceName(database string) string {
	if sourceName.MatchString(database) && !digested.MatchString(database) {
		return database
	}
	return fold(database, maxSourceName, "-")
}

// SlotOf is the name of a source's slot: both, unless that is too long for PostgreSQL, or has a -; it is then folded as SourceName does.
func SlotOf(slot, source string) string {
	name := slot + "_" + source
	if len(name) <= maxSlot && !strings.Contains(name, "-") && !digested.MatchString(name) {
		return name
	}
	return fold(name, maxSlot, "_")
}

// fold makes a name of up to size bytes of a-z, 0-9, _ and the separator, behind which a digest of the whole stands.
func fold(name string, size int, separator string) string {
	sum := sha256.Sum256([]byte(name))
	plain := folded.ReplaceAllString(strings.ToLower(name), "_")
	plain = strings.Trim(plain[:min(len(plain), size-1-digestSize)], "_")
	return cmp.Or(plain, "x") + separator + hex.EncodeToString(sum[:])[:digestSize]
}

// PrefixOf begins the names of a source's keys in Redis. The : is in no prefix of a file, so that none begins another bridge's.
func PrefixOf(prefix, source string) string { return cmp.Or(prefix, "gancho") + ":" + source }

// For is the configuration as if the source were its only one.
func (c *Config) For(d Database) *Config {
	one := *c
	one.Sources, one.SourceName = nil, d.Name
	one.Source.DSN, one.Source.LookupDSN, one.Source.Slot = d.DSN, d.LookupDSN, d.Slot
	one.Queue.Prefix = d.QueuePrefix
	one.Endpoints = nil
	for i := range c.Endpoints {
		if c.Endpoints[i].Reads(d.Name) {
			one.Endpoints = append(one.Endpoints, c.Endpoints[i])
		}
	}
	return &one
}
