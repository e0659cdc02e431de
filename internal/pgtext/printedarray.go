package pgtext

import "bytes"

// PrintedArray is an array's text form as the server prints it. Its shape and single
// elements are found without reading the others: what is searched for is only the
// delimiters outside of quotes. Create one with ReadPrintedArray.
type PrintedArray struct {
	braces []byte // from the outermost opening brace to the closing one
	delim  byte
}

// ReadPrintedArray returns the array and its lengths and lower bounds, none if it is
// empty. What begins or ends otherwise than the server's text is not ok.
func ReadPrintedArray(text []byte, delim byte) (a PrintedArray, length, lower []int, ok bool) {
	r := ReadArray(text, delim)
	if !r.bounds() || r.i+1 >= len(r.s) || r.s[r.i] != '{' || r.s[len(r.s)-1] != '}' {
		return a, nil, nil, false
	}
	a = PrintedArray{r.s[r.i:], r.delim}
	dims := 0
	for dims < len(a.braces) && a.braces[dims] == '{' {
		dims++
	}
	switch {
	case len(a.braces) == len("{}"):
		return a, nil, nil, r.declared == 0
	case dims > maxDimensions || r.declared != 0 && r.declared != dims:
		return a, nil, nil, false
	}
	length, lower = make([]int, dims), make([]int, dims)
	inner := 1 // elements in a brace of the next level
	for i := dims - 1; i >= 0; i-- {
		n := 1 + a.delimiters(bytes.Repeat([]byte("}"), dims-i))
		length[i], lower[i] = n/inner, 1
		if r.declared != 0 {
			lower[i] = int(r.lower[i])
		}
		if n%inner != 0 || r.declared != 0 && r.upper[i]-r.lower[i]+1 != int32(length[i]) {
			return a, nil, nil, false
		}
		inner = n
	}
	return a, length, lower, true
}

// Braces returns the text of the elements, from the first brace to the last.
func (a PrintedArray) Braces() []byte { return a.braces }

// delimiters counts those before the closing braces, outside of quotes.
func (a PrintedArray) delimiters(closing []byte) int {
	n := 0
	for rest := a.braces; ; {
		bare, after := cutQuoted(rest)
		if end := bytes.Index(bare, closing); end >= 0 {
			return n + bytes.Count(bare[:end], []byte{a.delim})
		}
		n += bytes.Count(bare, []byte{a.delim})
		if rest = after; len(rest) == 0 {
			return n
		}
	}
}

// Element returns an element by its place, from 0, in the order of the text. It is empty
// behind the last.
func (a PrintedArray) Element(i int) (ArrayItem, []byte, error) {
	rest := a.braces
	for i > 0 {
		bare, after := cutQuoted(rest)
		n := bytes.Count(bare, []byte{a.delim})
		if n < i {
			i -= n
			if rest = after; len(rest) == 0 {
				return ArrayEnd, nil, errArraySyntax
			}
			continue
		}
		for ; i > 0; i-- {
			rest = rest[bytes.IndexByte(rest, a.delim)+1:]
		}
	}
	r := ArrayReader{s: bytes.TrimLeft(rest, "{"), delim: a.delim, level: 1, state: arrayNext}
	return r.Next()
}

// cutQuoted returns what is before the first quoted element, and what is behind it.
func cutQuoted(s []byte) (bare, after []byte) {
	bare, s, _ = bytes.Cut(s, []byte{'"'})
	for {
		end := bytes.IndexByte(s, '"')
		if end < 0 {
			return bare, nil
		}
		escapes := 0
		for escapes < end && s[end-1-escapes] == '\\' {
			escapes++
		}
		s = s[end+1:]
		if escapes%2 == 0 {
			return bare, s
		}
	}
}
