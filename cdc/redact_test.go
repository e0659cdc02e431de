package cdc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"gancho/cdc"
	"gancho/internal/testservers"
)

// secret is what must not be shown, wherever in a connection string it stands.
const secret = "S3NHA9"

// typed are connection strings as they are typed, well and not so well.
var typed = []string{
	"postgres://ana:S3NHA9@db.example.com:5432/erp?sslmode=disable",
	"postgres://S3NHA9@db.example.com/erp?sslmode=disable",
	"postgres://ana:x@S3NHA9/erp?sslmode=disable",
	"postgres://ana:x@db.example.com,S3NHA9/erp?sslmode=disable",
	"postgres://ana:1/S3NHA9@db.example.com/erp?sslmode=disable",
	"postgres://ana:x@y@S3NHA9@db.example.com/erp?sslmode=disable",
	"postgres://ana@db.example.com/erp?sslmode=disable&application_name=S3NHA9&search_path=S3NHA9",
	"host=db.example.com user= password=S3NHA9 sslmode=disable",
	"host=db.example.com user=ana dbname= password=S3NHA9 sslmode=disable",
	"host= password=S3NHA9 user=ana sslmode=disable",
	"host=db.example.com user=ana password='S3NHA9 x' sslmode=disable",
	"host=db.example.com user=ana password=x S3NHA9=1 sslmode=disable",
	"host=db.example.com user=ana passwrd=S3NHA9 options='-c geqo=S3NHA9' sslmode=disable",
	"host=/S3NHA9 user=ana sslmode=disable",
}

// connectErrors are the errors of attempts to connect: while the name is looked
// up, while a connection is opened, and of a server that repeats all it is told.
func connectErrors(dsn string) []error {
	var out []error
	for _, reached := range []int{0, 1, 2} {
		config, err := pgconn.ParseConfig(dsn)
		if err != nil {
			return append(out, fmt.Errorf("read source.dsn: %w", cdc.ErrDSN)) // its own error is not shown
		}
		config.LookupFunc = func(_ context.Context, host string) ([]string, error) {
			if reached == 0 {
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
			return []string{"127.0.0.1"}, nil
		}
		config.DialFunc = func(_ context.Context, network, address string) (net.Conn, error) {
			if reached == 1 {
				return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
			}
			client, server := net.Pipe()
			go repeat(server)
			return client, nil
		}
		_, err = pgconn.ConnectConfig(context.Background(), config)
		out = append(out, cdc.Redacted(fmt.Errorf("connect to the source: %w", err)))
	}
	return out
}

// repeat is a server that refuses a session with all that it was told.
func repeat(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	backend := pgproto3.NewBackend(conn, conn)
	message, err := backend.ReceiveStartupMessage()
	if start, ok := message.(*pgproto3.StartupMessage); ok && err == nil {
		var told []string
		for name, value := range start.Parameters {
			told = append(told, fmt.Sprintf("%q = %q", name, value))
		}
		text := strings.Join(told, ", ")
		backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "refused: " + text, Detail: text, Hint: text})
		_ = backend.Flush() // the test sees it
	}
}

func checkRedacted(t *testing.T, dsn string) {
	t.Helper()
	for _, err := range connectErrors(dsn) {
		text := err.Error()
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
			text += pg.Message + pg.Detail + pg.Hint
		}
		if dns, ok := errors.AsType[*net.DNSError](err); ok {
			text += dns.Error()
		}
		if strings.Contains(text, secret) {
			t.Errorf("the error for %q shows it: %s", dsn, text)
		}
	}
}

// TestRedacted: every way to type a connection string, with one more mistake at
// every place.
func TestRedacted(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	for _, dsn := range typed {
		checkRedacted(t, dsn)
		at := strings.Index(dsn, secret)
		for i := range len(dsn) {
			if i >= at && i < at+len(secret) {
				continue
			}
			checkRedacted(t, dsn[:i]+dsn[i+1:])
			for _, c := range "@:/?# ='" {
				checkRedacted(t, dsn[:i]+string(c)+dsn[i:])
			}
		}
	}
	// What is no secret stays, with a name for what is left out.
	err := connectErrors("postgres://ana:x@127.0.0.1/erp?sslmode=disable")[2]
	for _, want := range []string{"127.0.0.1:5432", `"user" = "[user]"`, `"database" = "[database]"`, "28000"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %s", want, err)
		}
	}
}

func FuzzRedacted(f *testing.F) {
	for _, dsn := range typed {
		f.Add(dsn)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		if !strings.Contains(dsn, secret) {
			t.Skip()
		}
		checkRedacted(t, dsn)
	})
}
