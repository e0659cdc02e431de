package queue_test

import (
	"testing"

	"gancho/delivery/queue"
	"gancho/internal/testservers"
)

// TestInspectCluster: every master is reported under its own address, and none refused.
func TestInspectCluster(t *testing.T) {
	t.Parallel()
	cluster, err := testservers.StartCluster(testservers.ClusterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	reports, err := queue.Inspect(t.Context(), queue.Options{Cluster: &queue.ClusterOptions{Addresses: cluster.Addresses()}})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range reports {
		seen[r.Address] = true
		if r.NotReady != nil || len(r.Refusals) > 0 || r.Used == 0 {
			t.Errorf("%+v", r)
		}
	}
	if len(seen) < 3 {
		t.Errorf("%d masters were reported", len(seen))
	}
}
