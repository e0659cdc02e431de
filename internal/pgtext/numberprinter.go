package pgtext

// numberPrinter writes one number in a NumberFormat. It visits the places of the
// format as PostgreSQL does (NUM_processor in formatting.c), whose
// handling of the corners (FM, 0 after 9, numbers that do not fit) has no
// shorter description.
type numberPrinter struct {
	f        *NumberFormat
	dst      []byte
	number   []byte // digits with a point, or #; never a sign
	at       int    // the next of number
	negative bool
	padding  int // places before the number's first digit

	place    int // the number of the digit pattern or point, from 0
	count    int // the number of the last place, as PostgreSQL counts them
	relevant int // under FM with a point: the last of number to be shown; -1
	signed   bool
	bracket  bool
	sign     signPlace
	inNumber bool // a digit was written, so that a comma is one
	cut      int  // where the text ends because number did; -1
}

func newNumberPrinter(f *NumberFormat, dst, number []byte, negative bool, padding int) numberPrinter {
	p := numberPrinter{
		f: f, dst: dst, number: number, negative: negative, padding: padding,
		relevant: -1, bracket: f.bracket, sign: f.sign, cut: -1,
	}
	if f.plus || f.minus {
		p.signed = f.minus // PL alone does not print the minus of a negative number
	} else {
		if !negative && f.fill {
			p.bracket = false
		}
		p.signed = !negative && f.fill && f.sign == signNone
		if p.sign == signBefore && f.pre == f.preBeforeSign {
			p.sign = signAfter
		}
	}
	p.count = f.post + f.pre - 1
	if f.fill && f.decimal {
		p.relevant = p.lastRelevant()
	}
	if !p.signed && padding == 0 {
		p.count++
	}
	return p
}

// lastRelevant returns the index of the last decimal that is not 0, or that a
// 0 of the format asks for; of the point without such a decimal; -1 without a point.
func (p *numberPrinter) lastRelevant() int {
	last, point := -1, false
	for i, c := range p.number {
		switch {
		case c == '.' && !point:
			point, last = true, i
		case point && c != '0':
			last = i
		}
	}
	if last >= 0 && p.f.zeroEnd > p.padding {
		last = max(last, min(len(p.number)-1, p.f.zeroEnd-p.padding))
	}
	return last
}

func (p *numberPrinter) node(n *numberNode) {
	switch n.pattern {
	case numberLiteral:
		p.dst = append(p.dst, n.literal...)
	case numberDigit, numberZero, numberPoint:
		p.digit(n.pattern)
	case numberComma:
		p.unless(p.inNumber, ',')
	case numberMinus:
		p.unless(p.negative, '-')
	case numberPlus:
		p.unless(!p.negative, '+')
	case numberSign:
		p.dst = append(p.dst, signOf(p.negative))
	}
}

// unless writes c when shown, else a blank, which FM leaves out.
func (p *numberPrinter) unless(shown bool, c byte) {
	if shown {
		p.dst = append(p.dst, c)
	} else if !p.f.fill {
		p.dst = append(p.dst, ' ')
	}
}

// current is the next byte of the number, 0 after its end.
func (p *numberPrinter) current() byte {
	if p.at < len(p.number) {
		return p.number[p.at]
	}
	return 0
}

// blankZero reports whether the number's next digit is the lone 0 before the
// point, which 9 leaves out.
func (p *numberPrinter) blankZero() bool {
	return !p.f.zero && p.at == 0 && p.current() == '0' && p.f.post != 0
}

func (p *numberPrinter) onlyPointRelevant() bool {
	return p.relevant >= 0 && p.number[p.relevant] == '.'
}

func (p *numberPrinter) digit(k numberPattern) {
	p.inNumber = false
	p.leadingSign()
	switch {
	case p.place < p.padding && (!p.f.zero || p.f.zeroStart > p.place):
		if !p.f.fill {
			p.dst = append(p.dst, ' ')
		}
	case p.place < p.padding:
		p.dst = append(p.dst, '0')
		p.inNumber = true
	default:
		p.numeral(k)
		if p.at < len(p.number) {
			p.at++
		}
	}
	p.trailingSign()
	p.place++
}

// leadingSign writes the sign, or the blank for it, before the first digit that shows.
func (p *numberPrinter) leadingSign() {
	begun := p.place >= p.padding || p.f.zero && p.f.zeroStart == p.place
	if p.signed || !begun || p.blankZero() && !p.onlyPointRelevant() {
		return
	}
	switch {
	case p.sign == signBefore:
		p.dst = append(p.dst, signOf(p.negative))
	case p.sign == signAfter:
		return
	case p.bracket:
		c := byte(' ')
		if p.negative {
			c = '<'
		}
		p.dst = append(p.dst, c)
	case p.negative:
		p.dst = append(p.dst, '-')
	case !p.f.fill:
		p.dst = append(p.dst, ' ')
	}
	p.signed = true
}

func (p *numberPrinter) numeral(k numberPattern) {
	c := p.current()
	switch {
	case c == '.':
		if !p.onlyPointRelevant() || p.f.fill {
			p.dst = append(p.dst, '.')
		}
	case p.relevant >= 0 && p.at > p.relevant && k != numberZero:
	case p.blankZero():
		if !p.f.fill {
			p.dst = append(p.dst, ' ')
		} else if p.onlyPointRelevant() {
			p.dst = append(p.dst, '0')
		}
	case c == 0:
		p.cut = len(p.dst)
	default:
		p.dst = append(p.dst, c)
		p.inNumber = true
	}
}

// trailingSign writes what comes after the number's last digit.
func (p *numberPrinter) trailingSign() {
	end := p.count
	if p.padding > 0 {
		end++
	}
	if p.f.decimal {
		end++
	}
	if p.relevant >= 0 && p.relevant == p.at {
		end = p.place
	}
	if p.place+1 != end {
		return
	}
	if p.signed && p.bracket {
		c := byte(' ')
		if p.negative {
			c = '>'
		}
		p.dst = append(p.dst, c)
	} else if p.sign == signAfter {
		p.dst = append(p.dst, signOf(p.negative))
	}
}
