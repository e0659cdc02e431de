package api

// recent is a map that remembers at least the last n keys put, and at most
// twice as many: when one generation is full, the one before it is dropped.
type recent[K comparable, V any] struct {
	n             int
	young, former map[K]V
}

func newRecent[K comparable, V any](n int) *recent[K, V] {
	return &recent[K, V]{n: n, young: map[K]V{}}
}

// get counts as a put of a key that is found.
func (r *recent[K, V]) get(key K) (V, bool) {
	if v, ok := r.young[key]; ok {
		return v, true
	}
	v, ok := r.former[key]
	if ok {
		r.put(key, v)
	}
	return v, ok
}

func (r *recent[K, V]) put(key K, v V) {
	if _, ok := r.young[key]; !ok && len(r.young) >= r.n {
		r.former, r.young = r.young, make(map[K]V, r.n)
	}
	r.young[key] = v
}

func (r *recent[K, V]) remove(key K) {
	delete(r.young, key)
	delete(r.former, key)
}
