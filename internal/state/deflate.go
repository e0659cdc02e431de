package state

import (
	"encoding/binary"
	"math/bits"
)

// quickBytes is up to which length a text is compressed with the fixed codes of DEFLATE. compress/flate makes a table of codes for each
// text, which takes ten times as long as compressing a short one, and saves little of it.
const quickBytes = 4 << 10

const (
	quickHash             = 10 // bits
	minMatch, maxMatch    = 4, 258
	endOfBlock, firstCopy = 256, 257
)

// copyCode is how a length or a distance is written: a symbol, and how many bits of the number follow it.
type copyCode struct {
	symbol, base uint16
	extra        uint8
}

// codesOf are n codes of RFC 1951, section 3.2.5, for numbers from base on: the first of them direct, without extra bits, then each to a number of those.
func codesOf(n, direct, each int, base uint16) []copyCode {
	out := make([]copyCode, n)
	for i := range out {
		extra := uint8(0)
		if i >= direct {
			extra = uint8((i-direct)/each + 1)
		}
		out[i] = copyCode{uint16(i), base, extra}
		base += 1 << extra
	}
	return out
}

var (
	quickLengths   = lengthCodes()
	quickDistances = codesOf(30, 4, 2, 1)
)

// lengthCodes are the codes by length less three; 258 has one of its own.
func lengthCodes() (out [256]copyCode) {
	for _, c := range codesOf(28, 8, 4, 3) {
		for n := int(c.base); n < int(c.base)+1<<c.extra && n < maxMatch; n++ {
			out[n-3] = copyCode{c.symbol + firstCopy, c.base, c.extra}
		}
	}
	out[maxMatch-3] = copyCode{285, maxMatch, 0}
	return out
}

// quickWriter writes bits, the lowest of a byte first.
type quickWriter struct {
	out  []byte
	held uint64
	n    uint
}

func (w *quickWriter) bits(value uint64, n uint) {
	w.held |= value << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.out = append(w.out, byte(w.held))
		w.held >>= 8
	}
}

// code writes a code, the highest bit first.
func (w *quickWriter) code(value uint16, n uint) { w.bits(uint64(bits.Reverse16(value)>>(16-n)), n) }

// symbol writes a literal or a length by the fixed codes of RFC 1951, section 3.2.6.
func (w *quickWriter) symbol(s uint16) {
	switch {
	case s < 144:
		w.code(0x30+s, 8)
	case s < 256:
		w.code(0x190+s-144, 9)
	case s < 280:
		w.code(s-256, 7)
	default:
		w.code(0xc0+s-280, 8)
	}
}

func (w *quickWriter) copyOf(length, distance int) {
	l := quickLengths[length-3]
	w.symbol(l.symbol)
	w.bits(uint64(length)-uint64(l.base), uint(l.extra))
	d := 29
	for int(quickDistances[d].base) > distance {
		d--
	}
	w.code(uint16(d), 5)
	w.bits(uint64(distance)-uint64(quickDistances[d].base), uint(quickDistances[d].extra))
}

// quickDeflated is a text of at most quickBytes compressed, as one block of DEFLATE that [inflated] and all others read.
func quickDeflated(plain []byte) []byte {
	w := quickWriter{out: make([]byte, 0, len(plain)/2+16)}
	w.bits(1|1<<1, 3)               // the last block, with fixed codes
	var seen [1 << quickHash]uint16 // the place behind the newest text with a hash
	for at := 0; at < len(plain); {
		if at+minMatch <= len(plain) {
			text := binary.LittleEndian.Uint32(plain[at:])
			h := text * 2654435761 >> (32 - quickHash)
			from := int(seen[h]) - 1
			seen[h] = uint16(at + 1)
			if from >= 0 && binary.LittleEndian.Uint32(plain[from:]) == text {
				length := minMatch
				for length < maxMatch && at+length < len(plain) && plain[from+length] == plain[at+length] {
					length++
				}
				w.copyOf(length, at-from)
				at += length
				continue
			}
		}
		w.symbol(uint16(plain[at]))
		at++
	}
	w.symbol(endOfBlock)
	w.bits(0, 7) // the rest of the last byte
	return w.out
}
