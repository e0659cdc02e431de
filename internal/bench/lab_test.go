package bench_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/redis/go-redis/v9"

	"gancho/internal/testservers"
)

const (
	database = "bench"
	table    = `create table pedidos (id bigserial primary key, empresa_id int not null, cliente_id int not null, status char(2) not null,
		numero varchar(20), total numeric(12,2), desconto numeric(12,2), criado_em timestamp default localtimestamp, observacao text)`
	insert = `insert into pedidos (empresa_id, cliente_id, status, numero, total, desconto, observacao)
		select 1, i %% 1000, '10', 'P' || i, i * 1.01, 0.5, 'entregar na portaria' from generate_series(1, %d) i`
	// insertLoop is one transaction per row, run on the server.
	insertLoop = `do $$ begin for i in 1..%d loop insert into pedidos (empresa_id, cliente_id, status, numero, total, desconto, observacao)
		values (1, i %% 1000, '10', 'P' || i, i * 1.01, 0.5, 'entregar na portaria'); commit; end loop; end $$`
	// plainRules stream row by row.
	plainRules = `rules:
  - event: pedido.criado
    table: pedidos
    on: insert
    when: status <> '00' and total > 0 and empresa_id = 1
    tenant: empresa_id
    key: id
    data:
      id: id
      empresa: empresa_id
      cliente: cliente_id
      status: status
      numero: numero
      total: total
      desconto: desconto
      criado_em: criado_em
      observacao: observacao
      liquido: total - desconto
`
	// collapsedRules are the same, decided at the commit.
	collapsedRules = plainRules + "    collapse: id\n"
	// lookupRules read a client by its primary key for each order.
	lookupRules = plainRules + `      cliente_nome: cliente.nome
    lookup:
      cliente: select nome from clientes where id = new.cliente_id
`
	clients = `create table clientes (id int primary key, nome text not null);
		insert into clientes select i, 'Cliente número ' || i from generate_series(0, 999) i; analyze clientes`
	// The publication and the slot that measurements copy.
	publication = "gancho"
	masterSlot  = "bench_master"
)

// delegatedRules have PostgreSQL evaluate one of plainRules' expressions.
func delegatedRules() string {
	return strings.Replace(plainRules, "total - desconto", "(select total - desconto)", 1)
}

// lab is the machinery around the command: servers, directory, versions.
type lab struct {
	gancho, profile               string
	database                      string   // that the next bridge reads
	rules, extra                  string   // of the next bridge; extra are top-level sections
	environment                   []string // of the next bridge, beside this process's
	postgres                      *testservers.Postgres
	redis                         *testservers.Redis
	dir                           string
	conn                          *pgx.Conn
	postgresVersion, redisVersion string
	slots                         int
	sessions                      int // that insertPaced has
}

func newLab(gancho, profile string) (_ *lab, err error) {
	l := &lab{profile: profile, database: database, rules: plainRules, sessions: 1}
	if l.gancho, err = filepath.Abs(gancho); err != nil {
		return nil, err
	}
	if _, err := os.Stat(l.gancho); err != nil {
		return nil, fmt.Errorf("find the command to measure: %w; build it: make build", err)
	}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.dir, err = os.MkdirTemp("", "gancho-bench-"); err != nil {
		return nil, err
	}
	if l.postgres, err = testservers.StartPostgres(testservers.PostgresOptions{Settings: map[string]string{"max_wal_size": "8GB"}}); err != nil {
		return nil, err
	}
	ctx := context.Background()
	if err := l.postgres.Exec(ctx, "postgres", "create database "+database); err != nil {
		return nil, err
	}
	if l.conn, err = pgx.Connect(ctx, l.postgres.DSN(database)); err != nil {
		return nil, err
	}
	for _, sql := range []string{table, clients, "create publication " + publication + " for table pedidos with (publish_via_partition_root = true)"} {
		if _, err := l.conn.Exec(ctx, sql); err != nil {
			return nil, err
		}
	}
	return l, l.conn.QueryRow(ctx, "select current_setting('server_version')").Scan(&l.postgresVersion)
}

func (l *lab) close() {
	if l.conn != nil {
		_ = l.conn.Close(context.Background())
	}
	if l.redis != nil {
		l.redis.Close()
	}
	if l.postgres != nil {
		l.postgres.Close()
	}
	if l.dir != "" {
		_ = os.RemoveAll(l.dir)
	}
}

// freshRedis replaces the Redis server by an empty one.
func (l *lab) freshRedis(ctx context.Context) (err error) {
	if l.redis != nil {
		l.redis.Close()
	}
	if l.redis, err = testservers.StartRedis(testservers.RedisOptions{}); err != nil {
		return err
	}
	c := l.client()
	defer func() { _ = c.Close() }()
	info, err := c.InfoMap(ctx, "server").Result()
	if err != nil {
		return err
	}
	l.redisVersion = info["Server"]["redis_version"]
	return nil
}

func (l *lab) client() *redis.Client { return redis.NewClient(&redis.Options{Addr: l.redis.Addr()}) }

// record creates a slot, runs the statement, and returns the position after it:
// copies of the slot then see just what the statement wrote.
func (l *lab) record(ctx context.Context, sql string) (end string, err error) {
	if _, err := l.conn.Exec(ctx, "truncate pedidos"); err != nil {
		return "", err
	}
	if _, err := l.conn.Exec(ctx, "select pg_create_logical_replication_slot($1, 'pgoutput')", masterSlot); err != nil {
		return "", err
	}
	if _, err := l.conn.Exec(ctx, sql); err != nil {
		return "", err
	}
	return end, l.conn.QueryRow(ctx, "select pg_current_wal_lsn()::text").Scan(&end)
}

// forget drops the slot that record created.
func (l *lab) forget(ctx context.Context) error {
	_, err := l.conn.Exec(ctx, "select pg_drop_replication_slot($1)", masterSlot)
	return err
}

// slot copies the recorded slot.
func (l *lab) slot(ctx context.Context) (name string, err error) {
	l.slots++
	name = fmt.Sprintf("bench_%d", l.slots)
	_, err = l.conn.Exec(ctx, "select pg_copy_logical_replication_slot($1, $2)", masterSlot, name)
	return name, err
}

func (l *lab) dropSlot(ctx context.Context, name string) error {
	for {
		_, err := l.conn.Exec(ctx, "select pg_drop_replication_slot($1)", name)
		if err == nil || !strings.Contains(err.Error(), "is active") {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// occupy takes the slot until release is called, so that a bridge is ready but for its stream, and
// what is measured from then on is all that the waiting changes take.
func (l *lab) occupy(ctx context.Context, slot string) (release func() error, err error) {
	conn, err := l.stream(ctx, slot)
	if err != nil {
		return nil, err
	}
	return func() error {
		_ = conn.Close() // the server notices
		return l.untilFree(ctx, slot)
	}, nil
}

// stream starts to stream from a slot; the client reads what comes, or nothing.
func (l *lab) stream(ctx context.Context, slot string) (net.Conn, error) {
	config, err := pgconn.ParseConfig(l.postgres.DSN(database))
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["replication"] = "database"
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	h, err := pg.Hijack()
	if err != nil {
		return nil, err
	}
	h.Frontend.SendQuery(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION SLOT %q LOGICAL 0/0 (proto_version '1', publication_names '%s')", slot, publication)})
	if err := h.Frontend.Flush(); err != nil {
		return nil, err
	}
	return h.Conn, nil
}

// untilFree waits until nobody streams from the slot.
func (l *lab) untilFree(ctx context.Context, slot string) error {
	for {
		var active bool
		if err := l.conn.QueryRow(ctx, "select active from pg_replication_slots where slot_name = $1", slot).Scan(&active); err != nil || !active {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// recvlogical times pg_recvlogical writing a copy of the slot to a file.
func (l *lab) recvlogical(ctx context.Context, end string) (time.Duration, error) {
	name, err := l.slot(ctx)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(l.postgres.Bin(), "pg_recvlogical"), "-d", l.postgres.DSN(database), "--slot", name,
		"--start", "--no-loop", "--endpos", end, "-f", filepath.Join(l.dir, "recvlogical"), "-o", "proto_version=1", "-o", "publication_names="+publication)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("pg_recvlogical: %w\n%s", err, out)
	}
	took := time.Since(start)
	if err := os.Remove(filepath.Join(l.dir, "recvlogical")); err != nil {
		return 0, err
	}
	return took, l.dropSlot(ctx, name)
}

// process is a child of the bench.
type process struct {
	cmd   *exec.Cmd
	lines chan string // what it prints, until it ends
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, lines: make(chan string, 1000)}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	return p, nil
}

// waitLine returns the first line with the text.
func (p *process) waitLine(text string) (string, error) {
	var seen []string
	for line := range p.lines {
		if strings.Contains(line, text) {
			return line, nil
		}
		seen = append(seen, line)
	}
	return "", fmt.Errorf("%s ended before it said %q:\n%s", filepath.Base(p.cmd.Path), text, strings.Join(seen, "\n"))
}

// stop ends the process and waits until it has ended.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	for range p.lines { // nobody reads what it says while it ends
	}
	return p.cmd.Wait()
}

// configure writes the command's files and returns the path of gancho.yaml.
func (l *lab) configure(slot, endpoints string) (string, error) {
	config := fmt.Sprintf("source:\n  dsn: %s\n  slot: %s\n  publication: %s\nqueue:\n  redis: %s\nhttp:\n  listen: 127.0.0.1:0\nrules: [rules.yaml]\n%sendpoints:\n%s",
		l.postgres.DSN(l.database), slot, publication, l.redis.URL(), l.extra, endpoints)
	path := filepath.Join(l.dir, "gancho.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return "", err
	}
	return path, os.WriteFile(filepath.Join(l.dir, "rules.yaml"), []byte(l.rules), 0o600)
}

// bridge starts the command on a slot, delivering to the endpoint lines.
func (l *lab) bridge(slot, endpoints string) (*process, error) {
	path, err := l.configure(slot, endpoints)
	if err != nil {
		return nil, err
	}
	args := []string{"run", "--create", "--config", path}
	if l.profile != "" {
		args = append(args, "--cpuprofile", filepath.Join(l.profile, slot+".pprof"))
	}
	cmd := exec.Command(l.gancho, args...)
	cmd.Env = append(os.Environ(), l.environment...)
	return startProcess(cmd)
}

// endpoint is one endpoint's YAML.
func endpoint(url string, concurrency int, state string) string {
	return fmt.Sprintf("  - {name: bench, url: %q, secret: whsec_YmVuY2gtYmVuY2gtYmVuY2gtYmVuY2gtYmVuY2g=, allow_http: true, allow_private: [127.0.0.0/8], concurrency: %d, state: %s}\n",
		url, concurrency, state)
}

// receiver starts a receiving process and returns its address.
func (l *lab) receiver(delay time.Duration) (*process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asReceiver+"="+delay.String())
	p, err := startProcess(cmd)
	if err != nil {
		return nil, "", err
	}
	addr, err := p.waitLine("127.0.0.1:")
	return p, "http://" + addr, err
}

// received asks a receiver until it has n, and returns its tally.
func received(ctx context.Context, url string, n int) (tally, error) {
	for {
		t, err := fetch(ctx, url+"/count") // the tally itself sorts what was measured: that would be most of the receiver's work
		if err != nil {
			return t, err
		}
		if t.Count >= n {
			return ask(ctx, url)
		}
		select {
		case <-ctx.Done():
			return t, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ask returns a receiver's tally.
func ask(ctx context.Context, url string) (tally, error) { return fetch(ctx, url+"/tally") }

func fetch(ctx context.Context, url string) (t tally, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return t, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return t, err
	}
	defer func() { _ = resp.Body.Close() }()
	return t, json.NewDecoder(resp.Body).Decode(&t)
}
