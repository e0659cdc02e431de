package mail_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	ours "gancho/internal/mail"
)

// server is an SMTP server of the test's own.
type server struct {
	t        *testing.T
	listener net.Listener
	tls      *tls.Config // nil: it does not offer STARTTLS
	silent   bool
	got      chan string // a message with its commands
}

func serve(t *testing.T, s *server) string {
	t.Helper()
	var err error
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.t, s.got = t, make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := s.listener.Accept()
		if err == nil {
			s.converse(conn)
		}
	}()
	t.Cleanup(func() { _ = s.listener.Close(); <-done })
	return s.listener.Addr().String()
}

func (s *server) converse(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	if s.silent {
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	var commands strings.Builder
	r := textproto.NewReader(bufio.NewReader(conn))
	say := func(line string) { _, _ = io.WriteString(conn, line+"\r\n") }
	say("220 teste")
	for {
		line, err := r.ReadLine()
		if err != nil {
			return
		}
		commands.WriteString(line + "\n")
		switch word, _, _ := strings.Cut(line, " "); word {
		case "EHLO":
			say("250-teste")
			if s.tls != nil {
				say("250-STARTTLS")
			}
			say("250 AUTH PLAIN")
		case "STARTTLS":
			say("220 ok")
			conn = tls.Server(conn, s.tls)
			r = textproto.NewReader(bufio.NewReader(conn))
			commands.WriteString("-- encrypted\n")
		case "AUTH":
			say("235 ok")
		case "RCPT":
			if strings.Contains(line, "gone@") {
				say("550 no such user")
			} else {
				say("250 ok")
			}
		case "DATA":
			say("354 ok")
			text, err := r.ReadDotBytes()
			if err != nil {
				return
			}
			commands.Write(text)
			say("250 ok")
			s.got <- commands.String()
		default:
			say("250 ok")
		}
	}
}

// A message arrives as it was written, over an encrypted connection, with the password sent
// behind that only.
func TestSend(t *testing.T) {
	t.Parallel()
	web := httptest.NewTLSServer(nil)
	t.Cleanup(web.Close)
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	s := &server{tls: &tls.Config{Certificates: web.TLS.Certificates}}
	at := serve(t, s)
	sender, err := ours.New(ours.Options{URL: "smtp://gancho:senha@" + at, From: "Gancho <gancho@example.com>", RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	m := &ours.Message{To: []string{"a@example.com", "b@example.com"}, Subject: "crm\r\nBcc: x@example.com não responde", Text: "Olá\n.\nendpoint: crm = " + strings.Repeat("é", 100)}
	if err := sender.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	commands, text, _ := strings.Cut(<-s.got, "DATA\n")
	if before, after, _ := strings.Cut(commands, "-- encrypted"); strings.Contains(before, "AUTH") || !strings.Contains(after, "AUTH PLAIN") ||
		!strings.Contains(after, "MAIL FROM:<gancho@example.com>") || !strings.Contains(after, "RCPT TO:<b@example.com>") {
		t.Errorf("commands:\n%s", commands)
	}
	got, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
	body, readErr := io.ReadAll(quotedprintable.NewReader(got.Body))
	if err != nil || readErr != nil || subject != m.Subject || strings.TrimRight(string(body), "\n") != m.Text || got.Header.Get("Bcc") != "" || got.Header.Get("To") != "a@example.com, b@example.com" {
		t.Errorf("%v %v: the message is\n%s", err, readErr, text)
	}
}

// An address that the server refuses keeps the message from nobody else.
func TestSendRefused(t *testing.T) {
	t.Parallel()
	s := &server{}
	sender, err := ours.New(ours.Options{URL: "smtp://" + serve(t, s), From: "gancho@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	m := &ours.Message{To: []string{"gone@example.com", "b@example.com"}, Subject: "s", Text: "t"}
	err = sender.Send(t.Context(), m)
	refused, some := errors.AsType[*ours.RefusedError](err)
	if !some || !slices.Equal(refused.Addresses, m.To[:1]) || !ours.Permanent(refused) {
		t.Errorf("one of two is refused: %v", err)
	}
	if commands, _, _ := strings.Cut(<-s.got, "DATA\n"); !strings.Contains(commands, "RCPT TO:<b@example.com>") {
		t.Errorf("commands:\n%s", commands)
	}
	m.To = m.To[:1]
	if sender, err = ours.New(ours.Options{URL: "smtp://" + serve(t, &server{}), From: "gancho@example.com"}); err != nil {
		t.Fatal(err)
	}
	if err := sender.Send(t.Context(), m); err == nil || !ours.Permanent(err) {
		t.Errorf("all are refused: %v", err)
	}
}

// A server that does not answer holds nobody up for longer than the context, and one with a
// certificate of others gets nothing.
func TestSendFails(t *testing.T) {
	t.Parallel()
	m := &ours.Message{To: []string{"a@example.com"}, Subject: "s", Text: "t"}
	silent := serve(t, &server{silent: true})
	sender, err := ours.New(ours.Options{URL: "smtp://" + silent, From: "gancho@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := sender.Send(ctx, m); err == nil {
		t.Error("a silent server took the message")
	}
	web := httptest.NewTLSServer(nil)
	t.Cleanup(web.Close)
	untrusted := &server{tls: &tls.Config{Certificates: web.TLS.Certificates}}
	if sender, err = ours.New(ours.Options{URL: "smtp://u:senha-secreta@" + serve(t, untrusted), From: "gancho@example.com"}); err != nil {
		t.Fatal(err)
	}
	if err := sender.Send(t.Context(), m); err == nil || strings.Contains(err.Error(), "senha-secreta") || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an untrusted server: %v", err)
	}
	for _, text := range []string{"http://x", "smtp://", "mail.example.com", "smtp://h/x?a"} {
		if _, err := ours.ParseURL(text); err == nil {
			t.Errorf("%s is taken for a server", text)
		}
	}
}
