package receiver

// recent is a map that remembers at least the last n keys put, and at most
// twice as many: when one generation is full, the one before it is dropped.
type recent[V any] struct {
	n             int
	young, former map[string]V
}

func newRecent[V any](n int) *recent[V] {
	return &recent[V]{n: n, young: map[string]V{}}
}

func (r *recent[V]) get(key string) (V, bool) {
	if v, ok := r.young[key]; ok {
		return v, true
	}
	v, ok := r.former[key]
	return v, ok
}

func (r *recent[V]) put(key string, v V) {
	if _, ok := r.young[key]; !ok && len(r.young) >= r.n {
		r.former, r.young = r.young, make(map[string]V, r.n)
	}
	r.young[key] = v
}
