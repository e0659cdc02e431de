package mail

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"net/url"
	"strings"
	"time"
)

// timeout bounds sending one message, from the dial to the answer.
const timeout = 30 * time.Second

// Options say over which server messages go.
type Options struct {
	// URL is smtp://user:password@host:587, or smtps:// for TLS from the start; see ParseURL.
	URL string
	// From is the sender's address, such as Gancho <gancho@example.com>.
	From string
	// RootCAs are trusted to sign the server's certificate; nil: the system's.
	RootCAs *x509.CertPool
}

// Sender sends messages. Safe for concurrent use.
type Sender struct {
	server        *url.URL
	address, host string
	from          *mail.Address
	roots         *x509.CertPool
}

// Message is a text to one or several people.
type Message struct {
	To            []string // addresses
	Subject, Text string
}

// ParseURL returns the server's URL with its port. Its errors do not repeat the password.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("this is not a URL")
	case u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("this is not the URL of an SMTP server")
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"smtp": "587", "smtps": "465"}[u.Scheme])
	}
	return u, nil
}

// New returns a Sender.
func New(o Options) (*Sender, error) {
	u, err := ParseURL(o.URL)
	if err != nil {
		return nil, fmt.Errorf("read the SMTP server: %w", err)
	}
	from, err := mail.ParseAddress(o.From)
	if err != nil {
		return nil, fmt.Errorf("read the sender's address: %w", err)
	}
	return &Sender{server: u, address: u.Host, host: u.Hostname(), from: from, roots: o.RootCAs}, nil
}

// RefusedError says that a message was sent, but not to the addresses that the server has refused.
type RefusedError struct {
	Addresses []string
	Err       error // of the last one
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%d addresses were refused: %v", len(e.Addresses), e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// Permanent reports whether the server will answer the same to the same message.
func Permanent(err error) bool {
	answer, ok := errors.AsType[*textproto.Error](err)
	return ok && answer.Code >= 500
}

// Send sends a message to all of its addresses that the server takes. A *RefusedError: it has refused
// some, and the others have the message; any other error: nobody has it, or the server has not said so.
func (s *Sender) Send(ctx context.Context, m *Message) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.send(ctx, m); err != nil {
		return fmt.Errorf("send mail over %s: %w", s.address, err)
	}
	return nil
}

func (s *Sender) send(ctx context.Context, m *Message) error {
	conn, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // Quit has closed it, or an error counts
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	client, err := smtp.NewClient(conn, s.host)
	if err != nil {
		return err
	}
	if err := s.secure(client); err != nil {
		return err
	}
	if password, ok := s.server.User.Password(); ok {
		if err := client.Auth(smtp.PlainAuth("", s.server.User.Username(), password, s.host)); err != nil {
			return err
		}
	}
	if err := client.Mail(s.from.Address); err != nil {
		return err
	}
	refused := &RefusedError{}
	for _, to := range m.To {
		if err := client.Rcpt(to); err != nil {
			refused.Addresses, refused.Err = append(refused.Addresses, to), err
		}
	}
	if len(refused.Addresses) == len(m.To) {
		return refused.Err
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(s.encode(m, time.Now())); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = client.Quit() // the server has the message
	if refused.Err != nil {
		return refused
	}
	return nil
}

func (s *Sender) dial(ctx context.Context) (net.Conn, error) {
	dialer := &net.Dialer{}
	if s.server.Scheme == "smtps" {
		return (&tls.Dialer{NetDialer: dialer, Config: s.tls()}).DialContext(ctx, "tcp", s.address)
	}
	return dialer.DialContext(ctx, "tcp", s.address)
}

func (s *Sender) tls() *tls.Config {
	return &tls.Config{ServerName: s.host, RootCAs: s.roots, MinVersion: tls.VersionTLS12}
}

// secure encrypts what is not, unless it stays on this machine.
func (s *Sender) secure(client *smtp.Client) error {
	if s.server.Scheme == "smtps" {
		return nil
	}
	if offered, _ := client.Extension("STARTTLS"); offered {
		return client.StartTLS(s.tls())
	}
	if ip, err := netip.ParseAddr(s.host); s.host == "localhost" || err == nil && ip.IsLoopback() {
		return nil
	}
	return errors.New("the server does not offer STARTTLS, and nothing is sent in the clear; use smtps://, or a relay on this machine")
}

// encode is the message with its header (RFC 5322).
func (s *Sender) encode(m *Message, now time.Time) []byte {
	var b bytes.Buffer
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	_, domain, _ := strings.Cut(s.from.Address, "@")
	for _, h := range [][2]string{
		{"From", s.from.String()}, {"To", strings.Join(m.To, ", ")}, {"Subject", mime.QEncoding.Encode("utf-8", m.Subject)},
		{"Date", now.Format(time.RFC1123Z)}, {"Message-ID", "<" + hex.EncodeToString(id) + "@" + domain + ">"},
		{"Auto-Submitted", "auto-generated"}, {"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "quoted-printable"},
	} {
		b.WriteString(h[0] + ": " + h[1] + "\r\n")
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(m.Text)) // into memory
	_ = w.Close()
	return b.Bytes()
}
