package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"gancho/internal/state"
)

// webhookID is one of an event, wherever it stands in a line.
var webhookID = regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{3}-[0-9a-f]{16}-[0-9a-f]{12}-[0-9a-f]{4}\b`)

// maxReceivedLine bounds a line, which may have a whole body.
const maxReceivedLine = 16 << 20

// resendMissing sends what is not in a file of what the receiver has.
func (s *session) resendMissing(ctx context.Context, file string, r state.Job, wait bool) error {
	has, lines, err := s.received(file)
	if err != nil {
		return err
	}
	if len(has) == 0 {
		return usageError{fmt.Errorf("--missing-from %s: none of its %s has a webhook-id, such as 1f2e3d4c-001-0000000001a2b3c4-000000000000-0000; "+
			"give a file that has them, or leave it out to send everything", file, plural(int64(lines), "line"))}
	}
	kept := 0
	jobs, err := s.local.ResendMissing(ctx, s.actor, r, func(id string) bool {
		kept++
		return has[id]
	})
	if err != nil {
		return noEndpoint(err, r.Endpoint)
	}
	if !s.json {
		if err := s.say("%s has %s; of %s that are kept, %d are missing there\n", file, plural(int64(len(has)), "webhook-id"), plural(int64(kept), "event"), total(jobs)); err != nil {
			return err
		}
		if len(jobs) == 0 {
			if kept == 0 {
				return s.say("%s\n", s.kept())
			}
			return nil
		}
	}
	return s.follow(ctx, jobs, wait)
}

func total(jobs []state.Job) (n int64) {
	for i := range jobs {
		n += jobs[i].Total
	}
	return n
}

// received reads the webhook-ids of a file, and how many lines it has; -: standard input.
func (s *session) received(file string) (has map[string]bool, lines int, err error) {
	var from io.Reader = s.cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, 0, usageError{fmt.Errorf("--missing-from: %w", err)}
		}
		defer func() { _ = f.Close() }() // it is read only
		from = f
	}
	has = map[string]bool{}
	in := bufio.NewScanner(from)
	in.Buffer(nil, maxReceivedLine)
	for in.Scan() {
		lines++
		for _, id := range webhookID.FindAll(in.Bytes(), -1) {
			has[string(id)] = true
		}
	}
	if err := in.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("line %d is longer than 16 MiB; write one webhook-id in a line", lines+1)
		}
		return nil, 0, fmt.Errorf("read --missing-from %s: %w", file, err)
	}
	return has, lines, nil
}
