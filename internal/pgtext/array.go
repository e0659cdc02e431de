package pgtext

// maxDimensions is PostgreSQL's limit (MAXDIM).
const maxDimensions = 6

var errArraySyntax = &Error{Code: codeTextSyntax, Message: "malformed array literal"}

// ArrayReader iterates over the elements of an array's text form, in the order
// in which they are written: row by row when there are several dimensions.
// The zero value is an empty array; make one with NewArrayReader.
type ArrayReader struct {
	tokens arrayTokens
	err    error
}

// NewArrayReader reads text, the output form of an array whose elements are
// separated by delim (',' for all types but box; 0 is ',').
func NewArrayReader(text []byte, delim byte) ArrayReader {
	r := ArrayReader{}
	r.tokens, r.err = newArrayTokens(text, delim)
	return r
}

// Next returns the next element; ok is false at the end or after an error.
// elem is valid until the next call.
func (r *ArrayReader) Next() (elem []byte, null, ok bool) {
	for r.err == nil {
		var k arrayToken
		if k, elem, r.err = r.tokens.next(); r.err != nil {
			break
		}
		switch k {
		case arrayElement:
			return elem, false, true
		case arrayNull:
			return nil, true, true
		case arrayEnd:
			return nil, false, false
		}
	}
	return nil, false, false
}

// Err returns what was wrong with the text, once Next has returned false.
func (r *ArrayReader) Err() error { return r.err }

// ArrayDims are the dimensions of an array: N of them, 0 for an empty array.
type ArrayDims struct {
	N             int
	Lower, Length [maxDimensions]int
}

// ParseArrayDims reads the dimensions off an array's text form.
func ParseArrayDims(text []byte, delim byte) (ArrayDims, error) {
	var d ArrayDims
	t, err := newArrayTokens(text, delim)
	if err != nil {
		return d, err
	}
	var count [maxDimensions]int
	level := 0
	for {
		k, _, err := t.next()
		if err != nil {
			return ArrayDims{}, err
		}
		switch k {
		case arrayOpen:
			if level > 0 {
				count[level-1]++
			}
			count[level] = 0
			level++
			d.N = max(d.N, level)
		case arrayClose:
			level--
			d.Length[level] = count[level]
		case arrayElement, arrayNull:
			count[level-1]++
		case arrayEnd:
			if d.N == 1 && d.Length[0] == 0 {
				return ArrayDims{}, nil
			}
			for i := range d.N {
				d.Lower[i] = 1
			}
			return d, t.lowerBounds(&d)
		}
	}
}

type arrayToken uint8

const (
	arrayOpen arrayToken = iota
	arrayClose
	arrayElement
	arrayNull
	arrayEnd
)

// arrayTokens splits an array's text form. Elements that had escapes are put
// together in scratch.
type arrayTokens struct {
	s       []byte
	bounds  []byte // what stands before the "=": "[0:1][5:6]", or nothing
	i       int
	delim   byte
	level   int
	state   arrayState
	scratch []byte
}

// arrayState is what may come next.
type arrayState uint8

const (
	arrayStart arrayState = iota // the first brace
	arrayFirst                   // after an opening brace: anything
	arrayNext                    // after a delimiter: an element or an opening brace
	arrayAfter                   // after an element or closing brace: a delimiter or a closing brace
)

func newArrayTokens(text []byte, delim byte) (arrayTokens, error) {
	t := arrayTokens{s: text, delim: delim}
	if delim == 0 {
		t.delim = ','
	}
	if len(text) > 0 && text[0] == '[' {
		for t.i < len(text) && text[t.i] != '=' {
			t.i++
		}
		t.bounds = text[:t.i]
		t.i++
	}
	if t.i >= len(text) || text[t.i] != '{' {
		return t, errArraySyntax
	}
	return t, nil
}

func (t *arrayTokens) next() (arrayToken, []byte, error) {
	if t.state == arrayAfter {
		if t.level == 0 {
			if t.i != len(t.s) {
				return 0, nil, errArraySyntax
			}
			return arrayEnd, nil, nil
		}
		if t.i < len(t.s) && t.s[t.i] == t.delim {
			t.i++
			t.state = arrayNext
		} else if t.i >= len(t.s) || t.s[t.i] != '}' {
			return 0, nil, errArraySyntax
		}
	}
	if t.i >= len(t.s) {
		return 0, nil, errArraySyntax
	}
	switch t.s[t.i] {
	case '{':
		if t.level == maxDimensions {
			return 0, nil, errArraySyntax
		}
		t.i++
		t.level++
		t.state = arrayFirst
		return arrayOpen, nil, nil
	case '}':
		if t.state == arrayNext || t.state == arrayStart {
			return 0, nil, errArraySyntax
		}
		t.i++
		t.level--
		t.state = arrayAfter
		return arrayClose, nil, nil
	}
	if t.level == 0 {
		return 0, nil, errArraySyntax
	}
	t.state = arrayAfter
	if t.s[t.i] == '"' {
		return t.quoted()
	}
	return t.bare()
}

// quoted reads an element in quotes, in which a backslash makes the next byte plain.
func (t *arrayTokens) quoted() (arrayToken, []byte, error) {
	t.i++
	start := t.i
	for ; t.i < len(t.s); t.i++ {
		switch t.s[t.i] {
		case '"':
			t.i++
			return arrayElement, t.s[start : t.i-1], nil
		case '\\':
			t.scratch = append(t.scratch[:0], t.s[start:t.i]...)
			return t.escaped()
		}
	}
	return 0, nil, errArraySyntax
}

func (t *arrayTokens) escaped() (arrayToken, []byte, error) {
	for ; t.i < len(t.s); t.i++ {
		switch c := t.s[t.i]; c {
		case '"':
			t.i++
			return arrayElement, t.scratch, nil
		case '\\':
			if t.i++; t.i == len(t.s) {
				return 0, nil, errArraySyntax
			}
			t.scratch = append(t.scratch, t.s[t.i])
		default:
			t.scratch = append(t.scratch, c)
		}
	}
	return 0, nil, errArraySyntax
}

// bare reads an element without quotes.
func (t *arrayTokens) bare() (arrayToken, []byte, error) {
	start := t.i
	for t.i < len(t.s) && t.s[t.i] != t.delim && t.s[t.i] != '}' {
		switch t.s[t.i] {
		case '{', '"', '\\':
			return 0, nil, errArraySyntax
		}
		t.i++
	}
	elem := t.s[start:t.i]
	switch {
	case len(elem) == 0:
		return 0, nil, errArraySyntax
	case equalFold(elem, "null"):
		return arrayNull, nil, nil
	}
	return arrayElement, elem, nil
}

// lowerBounds reads "[0:1][5:6]" into d.
func (t *arrayTokens) lowerBounds(d *ArrayDims) error {
	s := t.bounds
	if len(s) == 0 {
		return nil
	}
	for i := range d.N {
		if len(s) == 0 || s[0] != '[' {
			return errArraySyntax
		}
		lower, n := signedInt(s[1:])
		if n == 0 || n+1 >= len(s) || s[n+1] != ':' {
			return errArraySyntax
		}
		d.Lower[i] = lower
		s = s[n+2:]
		_, n = signedInt(s)
		if n == 0 || n >= len(s) || s[n] != ']' {
			return errArraySyntax
		}
		s = s[n+1:]
	}
	if len(s) != 0 {
		return errArraySyntax
	}
	return nil
}

// signedInt reads an integer of at most ten digits and returns its length, 0 when there is none.
func signedInt(s []byte) (v, n int) {
	if n < len(s) && s[n] == '-' {
		n++
	}
	start := n
	for n < len(s) && isDigit(s[n]) {
		v = v*10 + int(s[n]-'0')
		n++
	}
	if n == start || n > start+10 {
		return 0, 0
	}
	if start == 1 {
		v = -v
	}
	return v, n
}
