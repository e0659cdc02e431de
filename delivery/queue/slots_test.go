package queue_test

import (
	"testing"

	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
)

// Slots are those that Redis computes.
func TestSlots(t *testing.T) {
	t.Parallel()
	client := queuetest.Client(t, queuetest.StartRedis(t, "cluster-enabled", "yes"))
	for _, key := range []string{"", "a", "gancho:{crm}:q", "gancho:source", "{}", "a{}b", "a{b", "{a}{b}", "x{{y}}", "ção:{é}"} {
		want, err := client.ClusterKeySlot(t.Context(), key).Result()
		if err != nil || int64(queue.SlotOf(key)) != want {
			t.Errorf("%q: slot %d, want %d, %v", key, queue.SlotOf(key), want, err)
		}
	}
}

// A master has a key, however few slots it has.
func TestKeyOnEverySlot(t *testing.T) {
	t.Parallel()
	for slot := uint16(0); slot < 1<<14; slot += 127 {
		if key, err := queue.KeyOn(slot); err != nil || queue.SlotOf(key) != slot {
			t.Errorf("slot %d: key %q, %v", slot, key, err)
		}
	}
}
