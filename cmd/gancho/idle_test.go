package main_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/internal/testservers"
)

// What one idle process with a state may ask, per minute: the legacy database
// must not notice it.
const (
	idleStatements    = 12
	idleConnections   = 0
	idleRedisCommands = 120
)

// TestIdleBridgeIsQuiet counts what a bridge without traffic asks of its
// servers, as these count it: statements and connections in PostgreSQL's log,
// commands, those of scripts included, in Redis's statistics.
func TestIdleBridgeIsQuiet(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	server, err := testservers.StartPostgres(testservers.PostgresOptions{Settings: map[string]string{
		"autovacuum":    "off", // what it writes after the start has to be read and confirmed, and is no quiet
		"log_statement": "'all'", "log_replication_commands": "on", "log_connections": "on", "log_line_prefix": "'%a '",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	s := newStateful(t, server, nil, "create table pagamentos (id int primary key, valor numeric)")
	s.world.postgres, s.world.dsn = server, server.Database(t, "", "create table pagamentos (id int primary key, valor numeric)")
	s.rules = "rules:\n  - event: pagamento.novo\n    table: pagamentos\n    on: insert\n    columns: [id, valor]\n"
	r := newReceiver(t, nil)
	s.endpoint("a", r.url())
	s.endpoint("b", r.url())
	s.run()
	s.exec("insert into pagamentos values (1, 10)")
	r.waitFor(time.Minute, "both endpoints", func(all []arrival) bool { return len(all) >= 2 })

	client := s.redisClient()
	wait := func(d time.Duration) { // long enough to count, the one thing that only time brings
		timer := time.NewTimer(d)
		defer timer.Stop()
		<-timer.C
	}
	// What follows the start and the deliveries takes a busy machine longer.
	const settled = 10 * time.Second
	for quiet := false; !quiet; {
		n := commandsOf(t, client)
		wait(settled)
		quiet = commandsOf(t, client)-n <= int(idleRedisCommands*settled/time.Minute)
	}
	const window = time.Minute
	perMinute := func(n int) int { return int(int64(n) * int64(time.Minute) / int64(window)) }
	var statements, connections []string
	var commands int
	// A machine that is busy does late what belongs to the start, and endpoints rest a minute after Redis has answered for the last
	// delivery: a bridge that is not quiet asks too much in each of them.
	for range 8 {
		if err := client.ConfigResetStat(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		log := len(server.Log())
		wait(window)
		commands = commandsOf(t, client)
		t.Logf("window: %d commands", commands)
		text := server.Log()[log:]
		statements = regexp.MustCompile(`(?m)^.*LOG:  (statement|execute|received replication command).*$`).FindAllString(text, -1)
		connections = regexp.MustCompile(`(?m)^.*LOG:  connection received.*$`).FindAllString(text, -1)
		if perMinute(len(statements)) <= idleStatements && perMinute(len(connections)) <= idleConnections && perMinute(commands) <= idleRedisCommands {
			break
		}
	}
	t.Logf("per minute: %d statements, %d connections, %d Redis commands", perMinute(len(statements)), perMinute(len(connections)), perMinute(commands))
	if n := perMinute(len(statements)); n > idleStatements {
		t.Errorf("%d statements a minute, want at most %d:\n%s", n, idleStatements, strings.Join(statements, "\n"))
	}
	if n := perMinute(len(connections)); n > idleConnections {
		t.Errorf("%d connections a minute, want %d", n, idleConnections)
	}
	if n := perMinute(commands); n > idleRedisCommands {
		t.Errorf("%d commands a minute to Redis, want at most %d:\n%s", n, idleRedisCommands, client.Info(t.Context(), "commandstats").Val())
	}
}

// commandsOf is how many commands Redis has processed, those of scripts included.
func commandsOf(t *testing.T, c *redis.Client) int {
	t.Helper()
	m := regexp.MustCompile(`total_commands_processed:(\d+)`).FindStringSubmatch(c.Info(t.Context(), "stats").Val())
	if m == nil {
		t.Fatal("INFO has no total_commands_processed")
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
