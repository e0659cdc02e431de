package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gancho/delivery/webhook"
	"gancho/internal/control"
)

// showEndpoint prints an endpoint for people.
func (s *session) showEndpoint(e *control.EndpointView, now time.Time) error {
	l := live(e)
	row, end := s.facts()
	row("name", e.Name)
	row("state", s.said(standing(e, l)))
	if e.Problem != "" {
		row("problem", e.Problem)
	}
	switch {
	case l.Reason != "":
		row("suspended", clock(l.Since)+": "+reasonText(speech(s.cmd), l.Reason))
	case l.Until.After(now):
		row("held until", s.said(clock(l.Until)+", as its receiver asked"))
	}
	if !l.Failing.IsZero() {
		row("failing since", clock(l.Failing))
	}
	from := s.said("the state database")
	if e.From == control.FromFile {
		from = s.file
	}
	row("from", from)
	if e.Version > 0 {
		row("version", s.said(fmt.Sprintf("%d, of %s", e.Version, clock(e.Updated))))
	}
	oldest := "-"
	if l.Backlog > 0 {
		oldest = age(l.Oldest, now) + " old"
	}
	row("queued", s.said(fmt.Sprintf("%d, the oldest %s", l.Backlog, oldest)))
	if l.Overflowed > 0 {
		row("of them", s.said(fmt.Sprintf("%d in the state database, because the backlog is over its quota", l.Overflowed)))
	}
	row("retrying", s.said(fmt.Sprintf("%d, and %d blocked", l.Retrying, l.Blocked)))
	row("resends", fmt.Sprint(l.Replays))
	row("dead letters", fmt.Sprint(l.Dead))
	delivering := "by a running bridge"
	if !l.Owned {
		delivering = "by no process: no bridge is running, or it is starting"
	}
	row("delivered", s.said(delivering))
	if l.LogRecords > 0 || l.LogLost > 0 {
		row("delivery log", s.said(fmt.Sprintf("%s not written yet, %d lost", plural(l.LogRecords, "attempt"), l.LogLost)))
	}
	for _, k := range e.Keys {
		row("key", s.keyText(k))
	}
	if e.Tested != nil {
		row("tested", clock(e.Tested.Time))
	}
	err := errors.Join(end(), s.settingsText(e.Settings))
	if e.Tested == nil {
		return err
	}
	var out strings.Builder
	s.wrongLines(&out, e.Tested.Wrong)
	return errors.Join(err, s.show(out.String()))
}

// keyText is a signing key for people, without its secret part.
func (s *session) keyText(k control.KeyView) string {
	parts := []string{k.Kind}
	if k.Public != "" {
		parts = append(parts, k.Public)
	}
	if !k.Created.IsZero() {
		parts = append(parts, s.said("since "+clock(k.Created)))
	}
	if !k.Expires.IsZero() {
		parts = append(parts, s.said("until "+clock(k.Expires)))
	}
	return strings.Join(parts, " ")
}

// settingsText prints an endpoint's settings one in a line, as JSON, which is
// YAML as well.
func (s *session) settingsText(settings json.RawMessage) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(settings, &keys); err != nil {
		return fmt.Errorf("read the endpoint's settings: %w", err)
	}
	var out strings.Builder
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		fmt.Fprintf(&out, "  %s: %s\n", key, keys[key])
	}
	return s.show(s.said("settings") + ":\n" + out.String())
}

func newEndpointsTestCommand(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use: "test NAME", Short: "Send a signed ping to an endpoint, and show request and answer",
		Long: `Send a signed event of type ping to an endpoint, whatever its state, and print the
request, the answer and how long it took. The queue is not touched. The exit code is
1 when the answer would not count as delivered. When it does, the same event is sent
once more with a wrong signature, and to a path that does not exist: a receiver that
takes those loses events without notice, and is warned of.`,
		Args: oneName("endpoint"),
		RunE: f.onEndpoint(withStore|withSender, func(ctx context.Context, s *session, name string) error {
			x, err := s.Test(ctx, s.actor, name)
			if err != nil {
				return err
			}
			err = s.report(x, s.exchangeText(&x))
			if x.Outcome != "delivered" {
				err = errors.Join(err, fmt.Errorf("the ping to endpoint %q failed (%s): %s", name, x.Class, x.Error))
			}
			return err
		}),
	}
}

// exchangeText is a request and its answer as they were sent.
func (s *session) exchangeText(x *webhook.Exchange) string {
	var out strings.Builder
	fmt.Fprintf(&out, "> %s %s\n", x.Request.Method, printable(x.Request.URL))
	headerLines(&out, "> ", x.Request.Header)
	bodyLines(&out, "> ", x.Request.Body)
	if x.Answer != nil {
		fmt.Fprintf(&out, "< %s %d\n", orDash(x.Protocol), x.Answer.Status)
		headerLines(&out, "< ", x.Answer.Header)
		bodyLines(&out, "< ", x.Answer.Body)
	}
	if x.Error != "" {
		fmt.Fprintf(&out, "! %s\n", printable(reasonText(speech(s.cmd), x.Error)))
	}
	way := x.Address
	for _, part := range []string{x.Proxy, x.TLS} {
		if part != "" {
			way += ", " + part
		}
	}
	fmt.Fprintf(&out, "%s: %s\n", s.said(x.Outcome), orDash(way))
	out.WriteString(s.said(fmt.Sprintf("dns %s, connect %s, tls %s, first byte %s, total %s\n",
		ms(x.Timing.DNS), ms(x.Timing.Connect), ms(x.Timing.TLS), ms(x.Timing.FirstByte), ms(x.Timing.Total))))
	s.wrongLines(&out, x.Wrong)
	return out.String()
}

// wrongLines warn of a receiver that takes what it should not.
func (s *session) wrongLines(out *strings.Builder, probes []webhook.WrongProbe) {
	for _, p := range probes {
		what := map[string]string{"signature": "the same event with a wrong signature", "path": "the same event at a path that does not exist"}[p.Kind]
		switch {
		case !p.Accepted:
			continue
		case p.Success != "":
			out.WriteString(s.said(fmt.Sprintf("! %s is answered %d, too, and would be lost without notice; tell them apart with %s\n", what, p.Status, printable(p.Success))))
		default:
			out.WriteString(s.said(fmt.Sprintf("! %s is answered %d in the same way, and would be lost without notice; have the receiver answer it with 401 or 404\n", what, p.Status)))
		}
	}
}

func ms(v webhook.Milliseconds) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", v.Float())
}

func headerLines(out *strings.Builder, mark string, headers map[string][]string) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		for _, value := range headers[name] {
			fmt.Fprintf(out, "%s%s: %s\n", mark, strings.ToLower(printable(name)), printable(value))
		}
	}
}

func bodyLines(out *strings.Builder, mark, body string) {
	out.WriteString(mark[:1] + "\n")
	if body == "" {
		return
	}
	for line := range strings.SplitSeq(strings.TrimRight(body, "\n"), "\n") {
		out.WriteString(mark + printable(line) + "\n")
	}
}
