package main

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"gancho/internal/language"
)

// commentWidth is where the lines of a translated comment are broken.
const commentWidth = 118

var (
	wholeComment = regexp.MustCompile(`^( *)# (\S.*)$`)
	// commentedOut begins a comment that is YAML, to have its # taken away.
	commentedOut = regexp.MustCompile(`^([a-z_]+:( |$)|- )`)
	lastRemark   = regexp.MustCompile(`^(.*\S)( +)# (\S[^#]*)$`)
)

// commented is a YAML file with its comments in a language: paragraphs, which may have several lines, and
// remarks behind a value. What the language does not have stays.
func commented(l *language.Language, text string) string {
	if l.Code == language.English {
		return text
	}
	var out strings.Builder
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); {
		margin, paragraph, n := paragraphAt(lines[i:])
		if n == 0 {
			out.WriteString(remarked(l, lines[i]) + "\n")
			i++
			continue
		}
		if translated, known := l.Translated("cli.comment", paragraph); known {
			out.WriteString(broken(margin+"# ", translated))
		} else {
			out.WriteString(strings.Join(lines[i:i+n], "\n") + "\n")
		}
		i += n
	}
	return out.String()
}

// paragraphAt is the comment that lines begin with, and how many of them it has.
func paragraphAt(lines []string) (margin, text string, n int) {
	for ; n < len(lines); n++ {
		m := wholeComment.FindStringSubmatch(lines[n])
		if m == nil || commentedOut.MatchString(m[2]) || n > 0 && m[1] != margin {
			break
		}
		margin = m[1]
		text = strings.TrimPrefix(text+" "+m[2], " ")
	}
	return margin, text, n
}

// remarked is a line with the remark behind its value in a language.
func remarked(l *language.Language, line string) string {
	m := lastRemark.FindStringSubmatch(line)
	if m == nil {
		return line
	}
	if translated, known := l.Translated("cli.comment", m[3]); known {
		return m[1] + m[2] + "# " + translated
	}
	return line
}

// broken is a text in lines that begin so.
func broken(beginning, text string) string {
	var out strings.Builder
	width := 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case width == 0:
			out.WriteString(beginning + word)
			width = len(beginning) + n
		case width+1+n > commentWidth:
			out.WriteString("\n" + beginning + word)
			width = len(beginning) + n
		default:
			out.WriteString(" " + word)
			width += 1 + n
		}
	}
	return out.String() + "\n"
}
