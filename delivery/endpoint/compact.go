package endpoint

// compactKey is the value of the key compact that has only the newest event of a key sent.
const compactKey = "key"

// checkCompact returns what contradicts Compact, or nil.
func (e *Endpoint) checkCompact() *SettingError {
	switch {
	case !e.Compact:
		return nil
	case e.Order == OrderNone && e.Batch.Max <= 1:
		return mistakef("remove one of them", "compact: key sends the newest state of a key, and with order: none an older one may arrive after it")
	case e.OnExhausted == Block:
		return mistakef("remove one of them", "on_exhausted: block keeps a key until somebody acts, and with compact: key its next event would take the place of the one that blocks it")
	case e.Batch.PerTransaction:
		return mistakef("remove one of them", "batch with per: transaction sends whole transactions, and compact: key leaves events of them out")
	}
	return nil
}
