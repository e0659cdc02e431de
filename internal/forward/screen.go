package forward

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"gancho/delivery/webhook"
	"gancho/internal/receiver"
)

const (
	// listed is how many exchanges a screen keeps.
	listed = 500
	// redraw is how often the screen follows the size of its terminal.
	redraw = time.Second
)

// Screen is a terminal with the list of what was forwarded, and the request and the answer of the chosen one.
type Screen struct {
	in, out *os.File
	title   []string
	words   func(string) string // of the language

	list   []*Exchange
	chosen int // from the end, 0: the newest
	note   string
}

// NewScreen returns one with the lines of a title; words translate what it says of itself.
func NewScreen(in, out *os.File, title []string, words func(string) string) *Screen {
	return &Screen{in: in, out: out, title: title, words: words}
}

// Run shows what comes until the context ends or somebody types q. Resend is called for what somebody chooses with r.
func (s *Screen) Run(ctx context.Context, exchanges <-chan *Exchange, notes <-chan string, resend func(*Exchange) (*Exchange, error)) error {
	was, err := term.MakeRaw(int(s.in.Fd()))
	if err != nil {
		return err
	}
	defer func() {
		_, _ = io.WriteString(s.out, "\x1b[?25h\x1b[?1049l")
		_ = term.Restore(int(s.in.Fd()), was) // there is nothing else to do about it
	}()
	if _, err := io.WriteString(s.out, "\x1b[?1049h\x1b[?25l"); err != nil { // another screen, no cursor
		return err
	}
	keys := make(chan string)
	go func() { // it ends with the process: a terminal's read cannot be ended
		buffer := make([]byte, 16)
		for {
			n, err := s.in.Read(buffer)
			if err != nil {
				close(keys)
				return
			}
			for typed := string(buffer[:n]); typed != ""; {
				var key string
				key, typed = cutKey(typed)
				select {
				case keys <- key:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	sent := make(chan *Exchange, 1)
	for {
		width, height, err := term.GetSize(int(s.out.Fd()))
		if err != nil {
			width, height = 80, 24
		}
		if _, err := io.WriteString(s.out, s.draw(width, height)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case e := <-exchanges:
			s.add(e)
		case e := <-sent:
			s.add(e)
			s.chosen = 0
		case s.note = <-notes:
		case key, open := <-keys:
			if !open || s.key(ctx, key, resend, sent) {
				return nil
			}
		}
	}
}

// cutKey is the first key of what was typed: an arrow is three bytes.
func cutKey(typed string) (key, rest string) {
	n := 1
	if len(typed) >= 3 && (strings.HasPrefix(typed, "\x1b[") || strings.HasPrefix(typed, "\x1bO")) {
		n = 3
	}
	return typed[:n], typed[n:]
}

// key does what a key is for; true: it ends the screen.
func (s *Screen) key(ctx context.Context, key string, resend func(*Exchange) (*Exchange, error), sent chan<- *Exchange) bool {
	switch key {
	case "q", "\x03": // Ctrl-C, which a raw terminal hands on
		return true
	case "k", "\x1b[A", "\x1bOA":
		s.chosen = min(s.chosen+1, max(len(s.list)-1, 0))
	case "j", "\x1b[B", "\x1bOB":
		s.chosen = max(s.chosen-1, 0)
	case "r":
		if len(s.list) == 0 {
			return false
		}
		e := s.list[len(s.list)-1-s.chosen]
		s.note = ""
		go func() {
			again, err := resend(e)
			if err != nil {
				copied := *e
				copied.Resent, copied.Request, copied.Answer, copied.Error = true, nil, nil, err.Error()
				again = &copied
			}
			select {
			case sent <- again:
			case <-ctx.Done():
			}
		}()
	}
	return false
}

func (s *Screen) add(e *Exchange) {
	s.list = append(s.list, e)
	if len(s.list) > listed {
		s.list = s.list[1:]
	}
	if s.chosen > 0 { // the chosen one stays
		s.chosen = min(s.chosen+1, len(s.list)-1)
	}
}

// draw is the whole screen.
func (s *Screen) draw(width, height int) string {
	var lines []string
	for _, line := range s.title {
		lines = append(lines, "\x1b[7m"+pad(line, width)+"\x1b[0m")
	}
	rows := max(3, height/3)
	first, list := len(s.list)-rows, len(lines)+rows // the list ends in this line
	if chosen := len(s.list) - 1 - s.chosen; chosen < first {
		first = chosen
	}
	for i := max(first, 0); i < len(s.list) && len(lines) < list; i++ {
		e := s.list[i]
		line := pad(fmt.Sprintf("%s  %s  %-16s  %-28s  %s%s", e.Time.Format("15:04:05"), status(e), receiver.Printable(e.Endpoint), receiver.Printable(e.Event), marks(e, s.words), receiver.Printable(e.WebhookID)), width)
		switch {
		case i == len(s.list)-1-s.chosen:
			line = "\x1b[7m" + line + "\x1b[0m"
		case !e.OK():
			line = "\x1b[31m" + line + "\x1b[0m"
		}
		lines = append(lines, line)
	}
	for len(lines) < list {
		lines = append(lines, pad("", width))
	}
	for _, line := range s.detail() {
		if len(lines) < height-1 {
			lines = append(lines, pad(line, width))
		}
	}
	for len(lines) < height-1 {
		lines = append(lines, pad("", width))
	}
	foot := s.words("r sends again, arrows choose, q ends")
	if s.note != "" {
		foot += "  |  " + receiver.Printable(s.note)
	}
	lines = append(lines, "\x1b[7m"+pad(foot, width)+"\x1b[0m")
	return "\x1b[H" + strings.Join(lines, "\r\n")
}

// detail are the request and the answer of the chosen exchange.
func (s *Screen) detail() (lines []string) {
	if len(s.list) == 0 {
		return []string{"", s.words("nothing has come yet")}
	}
	e := s.list[len(s.list)-1-s.chosen]
	if r := e.Request; r != nil {
		lines = append(lines, "", r.Method+" "+receiver.Printable(r.URL))
		lines = append(lines, headerLines(r)...)
		lines = append(lines, "", receiver.Printable(r.Body))
	}
	lines = append(lines, "", outcome(e, s.words))
	if e.Answer != nil && e.Error != "" {
		lines = append(lines, receiver.Printable(e.Error))
	}
	return lines
}

func headerLines(r *webhook.ExchangeRequest) (lines []string) {
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		lines = append(lines, receiver.Printable(name+": "+strings.Join(r.Header[name], ", ")))
	}
	return lines
}

// pad makes a text as wide as the terminal.
func pad(text string, width int) string {
	runes := []rune(text)
	if len(runes) > width {
		return string(runes[:max(width-1, 0)]) + "…"
	}
	return text + strings.Repeat(" ", width-len(runes))
}
