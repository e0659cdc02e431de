package testservers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// StartStandby makes a streaming standby of the server, which is stopped for a moment: the
// standby begins as a copy of its files. Its primary keeps the WAL that it needs in the physical
// slot "standby". The settings are added to its own. Of the server's slots it has those that are named, where they
// stood, as tools make them that keep slots over a failover before PostgreSQL 17. Close removes it.
func (p *Postgres) StartStandby(settings map[string]string, slots ...string) (_ *Postgres, err error) {
	s := &Postgres{bin: p.bin, user: p.user, arguments: p.arguments}
	if s.port, err = quietPort(); err != nil {
		return nil, err
	}
	if s.dir, err = newDirectory("pg"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, s.Log())
			s.Close()
		}
	}()
	if err := p.Exec(context.Background(), "postgres", "select pg_create_physical_replication_slot('standby', true)"); err != nil {
		return nil, err
	}
	p.Stop("fast")
	if err := s.copyFiles(p, slots); err != nil {
		return nil, err
	}
	conf := map[string]string{
		"hot_standby_feedback": "on",
		"primary_slot_name":    "'standby'",
		"primary_conninfo":     fmt.Sprintf("'host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable application_name=standby'", p.port),
	}
	maps.Copy(conf, settings)
	if err := s.configure(conf); err != nil {
		return nil, err
	}
	return s, errors.Join(p.Start(), s.Start())
}

// copyFiles makes this server's files a copy of those of one that has stopped, without its other slots.
func (p *Postgres) copyFiles(of *Postgres, keep []string) error {
	if out, err := exec.Command("cp", "-a", of.data(), p.data()).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w\n%s", of.data(), err, out)
	}
	slots, err := filepath.Glob(filepath.Join(p.data(), "pg_replslot", "*"))
	if err != nil {
		return err
	}
	for _, slot := range slots {
		if slices.Contains(keep, filepath.Base(slot)) {
			continue
		}
		if err := os.RemoveAll(slot); err != nil {
			return err
		}
	}
	signal := filepath.Join(p.data(), "standby.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		return err
	}
	if p.user == nil {
		return nil
	}
	return errors.Join(os.Chown(p.dir, int(p.user.Uid), int(p.user.Gid)), os.Chown(signal, int(p.user.Uid), int(p.user.Gid)))
}

// Promote makes a primary of a standby, and returns when it is one.
func (p *Postgres) Promote() error {
	return p.Exec(context.Background(), "postgres", "select pg_promote(true, 60)")
}

// Version is the major version of the server's programs.
func (p *Postgres) Version() (int, error) {
	out, err := exec.Command(filepath.Join(p.bin, "postgres"), "--version").Output()
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(out)) // postgres (PostgreSQL) 17.10
	number, _, _ := strings.Cut(fields[len(fields)-1], ".")
	if len(fields) > 2 {
		number, _, _ = strings.Cut(fields[2], ".")
	}
	return strconv.Atoi(number)
}

// HostsDSN is the connection string of a database on whichever of the servers is the primary.
func HostsDSN(database string, servers ...*Postgres) string {
	addresses := make([]string, len(servers))
	for i, s := range servers {
		addresses[i] = fmt.Sprintf("127.0.0.1:%d", s.port)
	}
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable&target_session_attrs=read-write", strings.Join(addresses, ","), database)
}
