package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gancho/internal/testservers"
)

// TestFiveMinutes does what the page for the first five minutes says, in both languages: what it shows, in its order, is
// what the commands print, and in the end the source is as it was.
func TestFiveMinutes(t *testing.T) {
	testservers.Whole(t)
	redis, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	for i, c := range []struct{ page, readme, language string }{
		{"../../docs/five-minutes.md", "../../README.md", "LC_ALL=C.UTF-8"},
		{"../../docs/five-minutes.pt-BR.md", "../../README.pt-BR.md", "LC_ALL=pt_BR.UTF-8"},
	} {
		t.Run(filepath.Base(c.page), func(t *testing.T) {
			page := mustRead(t, c.page)
			statements := blocksOf(page, "sql")
			if len(statements) != 2 {
				t.Fatalf("the page has %d blocks of SQL", len(statements))
			}
			dsn, dir := initWorld(t, statements[0])
			w := &world{t: t, dsn: dsn, dir: dir, env: []string{c.language, "GANCHO_REDIS_URL=" + strings.TrimSuffix(redis.URL(), "/0") + fmt.Sprintf("/%d", i)}}
			printed := w.pageCommands(page)
			for _, text := range []string{page, mustRead(t, c.readme)} {
				shown := 0
				for command, output := range consoleOf(text) {
					actual, ok := printed[command]
					if !ok {
						t.Errorf("%s is not a command of the page", command)
					}
					shown++
					containsLines(t, command, actual, output)
				}
				if shown < 4 {
					t.Errorf("%d commands are shown", shown)
				}
			}
			conn := w.connect()
			for _, statement := range strings.Split(strings.TrimSpace(statements[1]), "\n") {
				if _, err := conn.Exec(context.Background(), statement); err != nil {
					t.Errorf("%s: %v", statement, err)
				}
			}
			var left int
			if err := conn.QueryRow(context.Background(), "select (select count(*) from pg_publication) + (select count(*) from pg_replication_slots where database = current_database()) + (select count(*) from pg_namespace where nspname = 'gancho')").Scan(&left); err != nil || left != 0 {
				t.Errorf("%d things are left at the source, %v", left, err)
			}
		})
	}
}

// pageCommands runs the page's four commands and its traffic, and returns what each has printed.
func (w *world) pageCommands(page string) map[string]string {
	w.t.Helper()
	printed := map[string]string{}
	for _, command := range []string{"gancho init --table vendas", "gancho check"} {
		cmd := exec.Command(os.Args[0], strings.Fields(command)[1:]...)
		cmd.Dir, cmd.Env = w.dir, commandEnv(w.env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			w.t.Fatalf("%s: %v\n%s", command, err, out)
		}
		printed[command] = string(out)
	}
	path := filepath.Join(w.dir, "gancho.yaml")
	secret := regexp.MustCompile(`secret: (whsec_\S+)`).FindStringSubmatch(mustRead(w.t, path))
	if secret == nil {
		w.t.Fatal("the draft has no secret")
	}
	listen := w.start("listen", "--secret", secret[1], "--addr", "127.0.0.1:0")
	address := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(listen.waitLog("http://127.0.0.1:"))
	mustReplace(w.t, path, "http://127.0.0.1:8621/", address+"/", "listen: 127.0.0.1:8620", "listen: 127.0.0.1:0")
	run := w.start("run", "--create")
	run.waitLog("bridge is ready")
	conn := w.connect()
	traffic := regexp.MustCompile(`(?m)^\$ (psql .* -c "(.*)")$`).FindAllStringSubmatch(page, -1)
	if len(traffic) != 2 {
		w.t.Fatalf("the page has %d statements", len(traffic))
	}
	for _, m := range traffic {
		printed[m[1]] = ""
		if _, err := conn.Exec(context.Background(), m[2]); err != nil {
			w.t.Fatalf("%s: %v", m[2], err)
		}
	}
	listen.waitLog("vendas.update")
	run.stop()
	listen.kill()
	printed["gancho listen --secret whsec_"] = listen.text()
	printed["gancho run --create"] = run.text()
	return printed
}

// blocksOf returns the page's blocks of this language.
func blocksOf(page, language string) (blocks []string) {
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// consoleOf returns what a page shows of each command.
func consoleOf(page string) map[string][]string {
	shown := map[string][]string{}
	for _, block := range blocksOf(page, "console") {
		command := ""
		for _, line := range strings.Split(strings.TrimSuffix(block, "\n"), "\n") {
			var ok bool
			if next, is := strings.CutPrefix(line, "$ "); is {
				command = next
				if strings.HasPrefix(command, "export ") {
					continue
				}
				command, _, ok = strings.Cut(command, "whsec_")
				if ok {
					command += "whsec_"
				}
				shown[command] = nil
				continue
			}
			if line != "" && line != "..." {
				shown[command] = append(shown[command], line)
			}
		}
	}
	return shown
}

// variableParts are what differs from run to run.
var variableParts = []*regexp.Regexp{
	regexp.MustCompile(`whsec_\S+`), regexp.MustCompile(`\d\d:\d\d:\d\d\.\d+`), regexp.MustCompile(`[\d.]+(µs|ms|s)\b`),
	regexp.MustCompile(`[0-9a-f]{8}-\d{3}-[0-9a-f-]{30,}`), regexp.MustCompile(`127\.0\.0\.1:\d+`),
}

// containsLines: the output has these lines in this order, and may have others.
func containsLines(t *testing.T, command, output string, lines []string) {
	t.Helper()
	same := func(line string) string {
		for _, v := range variableParts {
			line = v.ReplaceAllString(line, "#")
		}
		return strings.Join(strings.Fields(line), " ")
	}
	rest := strings.Split(output, "\n")
	for _, line := range lines {
		i := 0
		for i < len(rest) && same(rest[i]) != same(line) {
			i++
		}
		if i == len(rest) {
			t.Errorf("%s does not print, after what is shown before it:\n%s\n%s", command, line, output)
			return
		}
		rest = rest[i+1:]
	}
}
