package cdc

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
)

// History is where a server left its former timelines, the oldest first, as "1@0/3000000 2@0/5000000"; ""
// on the first timeline, or where it is not known. Two servers on a timeline of the same number are on
// another one each unless their histories agree.
// https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES
type History string

// readHistory asks a server on a timeline for its history.
func readHistory(ctx context.Context, conn *pgconn.PgConn, timeline int32) (History, error) {
	if timeline <= 1 {
		return "", nil
	}
	file, err := pglogrepl.TimelineHistory(ctx, conn, timeline)
	if err != nil {
		return "", fmt.Errorf("read the history of timeline %d: %w", timeline, err)
	}
	var out []string
	for line := range strings.Lines(string(file.Content)) {
		if fields := strings.Fields(line); len(fields) >= 2 && !strings.HasPrefix(fields[0], "#") {
			out = append(out, fields[0]+"@"+fields[1])
		}
	}
	return History(strings.Join(out, " ")), nil
}

// Left returns where a server with this history left a timeline, if it was once on that with the
// history before. All WAL before that position is the same on both; none behind it is.
func (h History) Left(timeline int32, before History) (LSN, bool) {
	if before == "" && timeline > 1 {
		return 0, false // it is not known which of the timelines of that number it is
	}
	rest := string(h)
	if before != "" {
		var ok bool
		if rest, ok = strings.CutPrefix(rest, string(before)+" "); !ok {
			return 0, false
		}
	}
	next, _, _ := strings.Cut(rest, " ")
	number, at, ok := strings.Cut(next, "@")
	if !ok || number != strconv.Itoa(int(timeline)) {
		return 0, false
	}
	lsn, err := ParseLSN(at)
	return lsn, err == nil
}

// at returns on which timeline a server that is on current has the WAL of a position.
func (h History) at(lsn LSN, current int32) int32 {
	for entry := range strings.FieldsSeq(string(h)) {
		number, left, _ := strings.Cut(entry, "@")
		n, err1 := strconv.ParseInt(number, 10, 32)
		end, err2 := ParseLSN(left)
		if err1 == nil && err2 == nil && lsn < end {
			return int32(n)
		}
	}
	return current
}
