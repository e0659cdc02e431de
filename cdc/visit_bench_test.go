package cdc_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
)

// BenchmarkGlance is what a visit of a database costs its server to which nothing was written: the processor time of the sessions that have ended, in
// microseconds.
func BenchmarkGlance(b *testing.B) {
	dsn := pg.Database(b, "", oneTable)
	o := optionsFor(dsn)
	source := prepare(b, o, allOps("t"))
	confirmed := source.ConfirmedFlush
	visit := func() {
		ctx, cancel := context.WithCancel(b.Context())
		rec := newRecorder()
		rec.reader = cdc.NewReader(o, source)
		rec.reader.Confirm(confirmed)
		rec.reader.LoadLazily()
		rec.reader.Glance()
		ended := make(chan error, 1)
		go func() { ended <- rec.reader.Run(ctx, rec) }()
		confirmed = await(b, rec.keepalives, "a position")
		cancel()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
	}
	visit()
	before := endedCPU(b, pg.PID())
	for b.Loop() {
		visit()
	}
	b.ReportMetric(float64((endedCPU(b, pg.PID())-before).Microseconds())/float64(b.N), "server-µs/op")
}

// endedCPU is the processor time of the processes of a server that have ended.
func endedCPU(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skip(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks int
	for _, field := range fields[13:15] { // cutime and cstime, as proc(5) numbers them from 16
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // of which there are 100 a second
}
