package examples_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gancho/internal/testservers"
)

// kit is a receiver in one language.
type kit struct {
	name string
	// needs are the programs that it is run and built with.
	needs []string
	// optional: make deps does not install what it needs, and make test-examples does.
	optional bool
	// build is what makes it; nil: it is run as it is.
	build []string
	run   func(port string) []string
	// asymmetric: it verifies v1a. forms: it reads the format form, too. lines: its store is a file of lines.
	asymmetric, forms, lines bool
	// file is the program, applies what its apply does, and fails what stands there instead for one that fails while there is a file
	// named broken.
	file, applies, fails string
}

func kits() []kit {
	fixed := func(words ...string) func(string) []string { return func(string) []string { return words } }
	return []kit{
		{
			name: "go", needs: []string{"go"}, build: []string{"go", "build", "-trimpath", "-o", "receiver", "receiver.go"}, run: fixed("./receiver"),
			asymmetric: true, lines: true, file: "receiver.go",
			applies: "fmt.Println(e.Type, e.ID)", fails: `if _, err := os.Stat("broken"); err == nil { panic("broken") }`,
		},
		{
			name: "node", needs: []string{"node"}, run: fixed("node", "receiver.js"), asymmetric: true, lines: true, file: "receiver.js",
			applies: "console.log(event.type, event.id);", fails: `if (fs.existsSync("broken")) throw new Error("broken");`,
		},
		{
			name: "python", needs: []string{"python3"}, run: fixed("python3", "receiver.py"), file: "receiver.py",
			applies: `print(event["type"], event["id"], flush=True)`, fails: `__import__("os").path.exists("broken") and 1 / 0`,
		},
		{name: "php", needs: []string{"php"}, run: func(port string) []string {
			return []string{"php", "-d", "display_errors=0", "-S", "127.0.0.1:" + port, "receiver.php"}
		}, asymmetric: true, forms: true, file: "receiver.php",
			applies: "error_log($event['type'] . ' ' . $event['id']);", fails: "if (file_exists('broken')) { throw new Exception('broken'); }"},
		{
			name: "java", needs: []string{"java", "javac"}, optional: true, build: []string{"javac", "-Xlint:all", "-Werror", "Receiver.java"},
			run: fixed("java", "-cp", ".", "Receiver"), asymmetric: true, lines: true, file: "Receiver.java",
			applies: `System.out.println(event.type + " " + event.id);`, fails: `if (new java.io.File("broken").exists()) throw new AssertionError("broken");`,
		},
		{
			name: "csharp", needs: []string{"mcs", "mono"}, optional: true,
			build: []string{"mcs", "-warnaserror", "-r:System.Runtime.Serialization,System.Xml,System.Xml.Linq", "Receiver.cs"},
			run:   fixed("mono", "Receiver.exe"), lines: true, file: "Receiver.cs",
			applies: `Console.WriteLine(e.Type + " " + e.Id);`, fails: `if (File.Exists("broken")) throw new InvalidOperationException("broken");`,
		},
	}
}

// TestEveryKit: each folder is in the table, so that no receiver goes untested.
func TestEveryKit(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, k := range kits() {
		known[k.name] = true
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !known[e.Name()] {
			t.Errorf("examples/%s is not in the table of kits", e.Name())
		}
		delete(known, e.Name())
	}
	for name := range known {
		t.Errorf("examples/%s is in the table of kits, and there is no such folder", name)
	}
}

// prepared copies the kit as an integrator does, builds it, and returns the folder.
func (k kit) prepared(t *testing.T) string { return k.preparedWith(t, k.applies) }

// preparedWith is prepared, with another text for what apply does.
func (k kit) preparedWith(t *testing.T, applies string) string {
	t.Helper()
	if k.build != nil {
		testservers.Whole(t) // to build one costs more than all that it does
	}
	for _, program := range k.needs {
		if _, err := exec.LookPath(program); err != nil {
			if k.optional && os.Getenv("GANCHO_TEST_EXAMPLES") != "all" {
				t.Skip(program + " is not installed: make test-examples installs it, and runs this")
			}
			t.Fatal(program + " is not installed; run make deps, or make test-examples")
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(k.name)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, k.file)
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), k.applies) != 1 {
		t.Fatalf("%s does not apply by %s: %v", path, k.applies, err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), k.applies, applies, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if k.build != nil {
		build := exec.CommandContext(t.Context(), k.build[0], k.build[1:]...)
		build.Dir = dir
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod") // of the kit alone, outside of any module
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(k.build, " "), err, out)
		}
	}
	return dir
}

// process is a kit that runs.
type process struct {
	url  string
	cmd  *exec.Cmd
	said *testservers.Transcript
}

// start runs the kit with these keys until the test ends, or kill.
func (k kit) start(t *testing.T, dir, keys string, env ...string) *process {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	words := k.run(port)
	p := &process{url: "http://" + address + "/hooks", cmd: exec.CommandContext(t.Context(), words[0], words[1:]...), said: &testservers.Transcript{}}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p.said, p.said
	p.cmd.Env = append(os.Environ(), append(env, "PORT="+port, "WEBHOOK_KEY="+keys, "STORE="+filepath.Join(dir, "store"))...)
	// Workers of PHP's server outlive it unless the whole group is killed.
	p.cmd.SysProcAttr = testservers.ChildAttr(syscall.SIGKILL, nil)
	p.cmd.Cancel = func() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }
	p.cmd.WaitDelay = 10 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Wait() }) // killed: the test's context ends before
	deadline := time.After(2 * time.Minute)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			tick.Stop()
			return p
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s does not listen:\n%s", k.name, p.said)
		}
	}
}

// kill ends the process as a power cut does.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Cancel(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
}
