package demo

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"gancho/internal/receiver"
)

const (
	// Of each window's webhooks a few are shown, and the rest counted: a bulk
	// update makes thousands within a second.
	screenWindow   = 400 * time.Millisecond
	linesPerWindow = 4
	previewRunes   = 72
)

// screen prints what happens, a line each, and no more lines than can be read.
// Its methods may be called by any goroutine.
type screen struct {
	out   io.Writer
	color bool

	mu     sync.Mutex
	shown  int            // lines of this window
	hidden map[string]int // events of this window beyond them
	window *time.Timer    // ends the window; nil between windows
}

func newScreen(out io.Writer, color bool) *screen {
	return &screen{out: out, color: color, hidden: map[string]int{}}
}

// say prints a line about what the demo does.
func (s *screen) say(format string, args ...any) {
	s.line(s.paint("1", "» "+fmt.Sprintf(format, args...)))
}

// line prints a line as it is.
func (s *screen) line(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.print(text)
}

// webhook prints or counts one that arrived.
func (s *screen) webhook(a *arrival) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.window == nil {
		s.window = time.AfterFunc(screenWindow, s.close)
	}
	if s.shown >= linesPerWindow {
		s.hidden[a.Type]++
		return
	}
	s.shown++
	s.print(fmt.Sprintf("%s  %-14s  %s  %s  %s  %s",
		s.paint("2", a.Arrived.Format("15:04:05.000")), a.Endpoint,
		s.paint("36", fmt.Sprintf("%-21s", a.Type)), s.paint("2", "empresa "+a.Tenant),
		s.paint("32", fmt.Sprintf("%9s", receiver.Short(a.CommitToArrival))), receiver.Clip(string(a.Data), previewRunes)))
}

// close ends the present window: it prints how many webhooks that did not show.
func (s *screen) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.window != nil {
		s.window.Stop()
	}
	total, parts := 0, []string(nil)
	for _, event := range slices.Sorted(maps.Keys(s.hidden)) {
		total += s.hidden[event]
		parts = append(parts, fmt.Sprintf("%s %s", thousands(s.hidden[event]), event))
	}
	if total > 0 {
		s.print(s.paint("2", fmt.Sprintf("              … and %s more: %s", thousands(total), strings.Join(parts, ", "))))
	}
	clear(s.hidden)
	s.shown, s.window = 0, nil
}

// print writes a line. An error means that nobody reads, so nobody would read of it.
func (s *screen) print(line string) { _, _ = fmt.Fprintln(s.out, line) }

func (s *screen) paint(code, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// thousands prints a number with separators.
func thousands(n int) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
