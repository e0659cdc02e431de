package forward

// remembered bounds how many texts a recent knows again.
const remembered = 20_000

// recent knows texts again: the newest of them.
type recent struct {
	known map[string]bool
	order []string // the oldest first
}

func (r *recent) has(text string) bool { return r.known[text] }

// add reports whether it is new. When there are too many, the oldest is forgotten, which is long over.
func (r *recent) add(text string) bool {
	if r.known[text] {
		return false
	}
	if r.known == nil {
		r.known = map[string]bool{}
	}
	if len(r.order) == remembered {
		delete(r.known, r.order[0])
		r.order = r.order[1:]
	}
	r.known[text], r.order = true, append(r.order, text)
	return true
}
