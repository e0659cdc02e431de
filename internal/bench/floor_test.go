package bench_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	endpoints "gancho/delivery/endpoint"
	"gancho/delivery/webhook"
)

// floor is the least that an event can cost as it is built: each part alone, with nothing between the parts. PostgreSQL decodes for a
// client that throws everything away, Redis gets an XADD and an XDEL of each event, some hundred in a MULTI,
// and the deliveries are of one event, in memory.
func (l *lab) floor(ctx context.Context) (r row, err error) {
	const n, concurrency = 40_000, 32
	receiver, url, err := l.receiver(0)
	if err != nil {
		return r, err
	}
	if _, err := l.recordAll(ctx, []string{fmt.Sprintf(insertLoop, n)}); err != nil {
		return r, err
	}
	var ratios, posts []float64
	var parts [4][]float64 // of PostgreSQL, its client, Redis, the deliveries
	for range repeats {
		server, client, err := l.discard(ctx, n)
		if err != nil {
			return r, err
		}
		queue, err := l.addAndDelete(ctx, n)
		if err != nil {
			return r, err
		}
		before := ownTime()
		if _, err := plainPosts(ctx, url, n, concurrency); err != nil {
			return r, err
		}
		plain := ownTime() - before
		sent, err := sends(ctx, url, n, concurrency)
		if err != nil {
			return r, err
		}
		all := time.Duration(0)
		for i, part := range []time.Duration{server, client, queue, sent} {
			parts[i] = append(parts[i], micros(part, n))
			all += part
		}
		ratios, posts = append(ratios, float64(all)/float64(plain)), append(posts, micros(plain, n))
	}
	if err := receiver.stop(); err != nil {
		return r, err
	}
	return row{
		what:   "the least of it: decoding and reading the stream, XADD and XDEL in hundreds, deliveries alone",
		figure: fmt.Sprintf("%.1f + %.1f + %.1f + %.1f µs", median(parts[0]), median(parts[1]), median(parts[2]), median(parts[3])),
		limit:  fmt.Sprintf("%.1f µs (a plain POST)", median(posts)), ratio: fmt.Sprintf("%.2f", median(ratios)), reach: "-",
	}, l.forget(ctx)
}

// discard streams the recorded transactions to a client that throws them away, and returns the
// processor time of PostgreSQL and of the client.
func (l *lab) discard(ctx context.Context, transactions int) (server, client time.Duration, err error) {
	slot, err := l.slot(ctx)
	if err != nil {
		return 0, 0, err
	}
	before, own := l.postgresCPU(), ownTime()
	conn, err := l.stream(ctx, slot)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = conn.Close() }()
	if err := throwAway(conn, transactions); err != nil {
		return 0, 0, err
	}
	server, client = l.postgresCPU()-before, ownTime()-own
	_ = conn.Close() // the server notices
	return server, client, l.dropSlot(ctx, slot)
}

// throwAway reads a stream until so many transactions have ended, and looks at nothing else. Between two reads
// a millisecond's messages gather, as they do for the bridge.
func throwAway(conn net.Conn, transactions int) error {
	const header, begin = 5, 5 + 25 // of CopyData, and of CopyData with XLogData
	buffer, rest := make([]byte, 1<<20), 0
	for transactions > 0 {
		n, err := conn.Read(buffer[rest:])
		if err != nil {
			return err
		}
		data := buffer[:rest+n]
		for len(data) >= header {
			size := 1 + int(binary.BigEndian.Uint32(data[1:]))
			if size > len(data) {
				break
			}
			switch {
			case data[0] == 'E':
				return fmt.Errorf("the server has ended the stream: %q", data[:size])
			case data[0] == 'd' && size > begin && data[header] == 'w' && data[begin] == 'C': // Commit
				transactions--
			}
			data = data[size:]
		}
		rest = copy(buffer, data)
		<-time.After(time.Millisecond)
	}
	return nil
}

// addAndDelete adds as many entries as events to a stream, and deletes them, and returns the processor time of Redis.
func (l *lab) addAndDelete(ctx context.Context, n int) (time.Duration, error) {
	const many = 256
	if err := l.freshRedis(ctx); err != nil {
		return 0, err
	}
	c := l.client()
	defer func() { _ = c.Close() }()
	info, err := c.InfoMap(ctx, "server").Result()
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(info["Server"]["process_id"])
	if err != nil {
		return 0, err
	}
	before := cpu(pid)
	for done := 0; done < n; done += many {
		var ids []string
		_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
			for i := done; i < min(done+many, n); i++ {
				ids = append(ids, fmt.Sprintf("%d-0", 1<<60+i))
				p.XAdd(ctx, &redis.XAddArgs{Stream: "q", ID: ids[len(ids)-1], NoMkStream: i > 0, Values: []string{"c", plainBody}})
			}
			return nil
		})
		if err == nil {
			err = c.XDel(ctx, "q", ids...).Err()
		}
		if err != nil {
			return 0, err
		}
	}
	return cpu(pid) - before, nil
}

// sends delivers an event in memory n times, and returns the processor time of that.
func sends(ctx context.Context, url string, n, concurrency int) (time.Duration, error) {
	secret, err := endpoints.ParseSecret("whsec_YmVuY2gtYmVuY2gtYmVuY2gtYmVuY2gtYmVuY2g=")
	if err != nil {
		return 0, err
	}
	ep := &endpoints.Endpoint{
		Name: "bench", URL: url + "/hook", AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Secrets: []endpoints.Secret{secret}, Concurrency: concurrency, Timeout: 20 * time.Second,
	}
	var message struct {
		Type, ID, Tenant, Sequence string
		Timestamp                  time.Time
		Data                       json.RawMessage
	}
	if err := json.Unmarshal([]byte(plainBody), &message); err != nil {
		return 0, err
	}
	m := &webhook.Message{ID: message.ID, Type: message.Type, Tenant: message.Tenant, Sequence: message.Sequence, Time: message.Timestamp, Data: message.Data}
	sender := webhook.NewSender(webhook.Options{Logger: zerolog.Nop()})
	defer sender.Close()
	before := ownTime()
	group, ctx := errgroup.WithContext(ctx)
	for range concurrency {
		group.Go(func() error {
			for range n / concurrency {
				if o := sender.Send(ctx, ep, m); o.Kind != webhook.Delivered {
					return fmt.Errorf("deliver: %w", o.Err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return ownTime() - before, nil
}
