package main_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// clusterWorld is a world whose queue is on a cluster of three masters.
func clusterWorld(t *testing.T, replicas int, statements ...string) (*world, *testservers.Cluster) {
	t.Helper()
	c, err := testservers.StartCluster(testservers.ClusterOptions{Replicas: replicas})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w := newWorldWithout(t, pg, "", statements...)
	w.queue = fmt.Sprintf("cluster: {addresses: [%s]}", strings.Join(c.Addresses(), ", "))
	return w, c
}

// sentinelWorld is a world whose queue is watched by sentinels.
func sentinelWorld(t *testing.T, statements ...string) (*world, *testservers.Sentinel) {
	t.Helper()
	s, err := testservers.StartSentinel(testservers.SentinelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w := newWorldWithout(t, pg, "", statements...)
	w.queue = fmt.Sprintf("sentinel: {master: %s, addresses: [%s]}", testservers.MasterName, strings.Join(s.Addresses(), ", "))
	return w, s
}

// receivers makes one endpoint for each of the names.
func (w *world) receivers(names ...string) []*receiver {
	out := make([]*receiver, len(names))
	for i, name := range names {
		out[i] = newReceiver(w.t, nil)
		w.endpoint(name, out[i].url())
	}
	return out
}

// complete stops the load and checks what every receiver got.
func complete(t *testing.T, l *load, receivers []*receiver) {
	t.Helper()
	rows := l.stop()
	for i, r := range receivers {
		t.Logf("receiver %d: %d rows, %d repeats", i, rows, checkDelivery(t, r.waitCount(rows), rows))
	}
}

// gone stops the process that captures, with what it has read, until another one captures: to the servers it is gone.
func (b *bridge) gone(other *bridge) {
	b.t.Helper()
	b.signal(syscall.SIGSTOP)
	other.takesOver(takeOverLimit, 1)
}

// back lets it go on, beside the other one. It waits for the slot, unless the other one gives it up
// for a moment, as it reads again what Redis has lost: then that one waits.
func (b *bridge) back(other *bridge) {
	b.t.Helper()
	b.signal(syscall.SIGCONT)
	queuetest.Eventually(b.t, "a process that waits for the slot", func() bool {
		return strings.Contains(b.text(), "slot is in use") || strings.Count(other.text(), "slot is in use") > 1
	})
}

// Masters die and their replicas are promoted while a process that had captured is stopped. The one that
// took its turn dies, too.
func TestClusterFailover(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w, c := clusterWorld(t, 1, loadTable)
	w.rules = loadRules
	receivers := w.receivers("a", "b", "c", "d")
	b := w.run()
	l := startLoad(t, w.dsn, loadPace)
	l.waitRows(200)
	owner := func() *testservers.Redis {
		r, err := c.Owner(context.Background(), "gancho:{a}:q")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	other := w.standby()
	b.gone(other)
	l.waitRows(100)
	first := owner()
	first.Kill()
	queuetest.Eventually(t, "another master", func() bool { return owner() != first })
	other.waitLog("appending again from the confirmed position")
	b.back(other)
	l.waitRows(200)
	other.kill()
	if err := first.Start(); err != nil { // as a replica
		t.Fatal(err)
	}
	b.waitLogs("replication started", 2)
	l.waitRows(200)
	complete(t, l, receivers)
	b.stop()
}

// Masters without replicas die and come back on their files.
func TestClusterRestarts(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w, c := clusterWorld(t, 0, loadTable)
	w.rules = loadRules
	receivers := w.receivers("a", "b", "c", "d")
	b := w.run()
	l := startLoad(t, w.dsn, loadPace)
	for _, node := range c.Nodes() {
		l.waitRows(200)
		node.Kill()
		l.waitRows(100)
		if err := node.Start(); err != nil {
			t.Fatal(err)
		}
	}
	l.waitRows(100)
	complete(t, l, receivers)
	b.stop()
}

// The master is killed, and comes back as a replica of another, while a process that had captured is stopped; a
// worker delivers beside the two.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	testservers.Whole(t)
	w, s := sentinelWorld(t, loadTable)
	w.rules = loadRules
	receivers := w.receivers("a", "b")
	b := w.run()
	worker := w.start("run", "--only", "deliver", "--config", w.write())
	l := startLoad(t, w.dsn, loadPace)
	l.waitRows(200)
	master := func() *testservers.Redis {
		r, err := s.Master(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	other := w.standby()
	b.gone(other)
	l.waitRows(100)
	first := master()
	first.Kill()
	queuetest.Eventually(t, "another master", func() bool { return master() != first })
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	other.waitLog("appending again from the confirmed position")
	b.back(other)
	l.waitRows(200)
	worker.kill()
	l.waitRows(100)
	complete(t, l, receivers)
	b.stop()
	other.stop()
}
