package expr

import (
	"maps"
	"sync"
)

// table is filled at the first use and never changes. It is not a
// sync.OnceValue because its entries refer to the checker, which refers to it.
var table struct {
	once  sync.Once
	impls map[string]*impl
}

// implementations maps a candidate's key, such as int4pl(int4,int4), to its
// code. Casts are here under the names of their functions.
func implementations() map[string]*impl {
	table.once.Do(func() {
		table.impls = map[string]*impl{}
		for _, part := range []map[string]*impl{
			comparisonImpls(), integerImpls(), numericImpls(), floatImpls(), numberCastImpls(), textImpls(), textFormImpls(),
			patternImpls(), timeImpls(), timeCastImpls(), timeFunctionImpls(), jsonImpls(), arrayImpls(),
		} {
			maps.Copy(table.impls, part)
		}
	})
	return table.impls
}

func implOf(c *candidate) (*impl, bool) {
	if c.variadic && len(c.args) > 0 {
		return variadicImpl(c.name)
	}
	im, ok := implementations()[c.key()]
	return im, ok
}

func one(f func(m *Machine, a value) value) *impl    { return &impl{one: f} }
func two(f func(m *Machine, a, b value) value) *impl { return &impl{two: f} }
func many(f func(m *Machine, a []value) value) *impl { return &impl{many: f} }

// same returns the value as it is, under another type.
func same() *impl { return one(func(_ *Machine, a value) value { return a }) }

// bound is an implementation that is created for each call.
func bound(f func(c *checker, t *term) (*impl, *Error)) *impl { return &impl{bind: f} }

// refusal is an error about a whole term.
func refusal(t *term, message, hint string) *Error {
	return &Error{Offset: t.off, Length: max(t.end-t.off, 1), Message: message, Hint: hint}
}
