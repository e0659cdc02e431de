package servercert_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"gancho/internal/servercert"
	"gancho/internal/testservers"
)

// shown is the name of the certificate that a server with the configuration shows to a client.
func shown(t *testing.T, server, client *tls.Config) (string, error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 1)) // the handshake, whose error is the client's, too
		_ = conn.Close()
	}()
	d := tls.Dialer{Config: client}
	conn, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	c, _ := conn.(*tls.Conn)
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

func replace(t *testing.T, with, name string) {
	t.Helper()
	text, err := os.ReadFile(with)
	if err == nil {
		err = os.WriteFile(name, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCertificate: a renewal is shown without a restart, and one that is not whole is not.
func TestCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate, key := testservers.WriteCertificate(t, dir, "first", time.Hour)
	next, nextKey := testservers.WriteCertificate(t, dir, "second", 2*time.Hour)
	synctest.Test(t, func(t *testing.T) { // its clock is not that of the files
		var log bytes.Buffer
		c, err := servercert.Open(servercert.Files{Certificate: certificate, Key: key}, zerolog.New(&log))
		if err != nil {
			t.Fatal(err)
		}
		sees := func(want string) {
			t.Helper()
			<-time.After(2 * time.Second) // of the test's own clock
			hello, err := c.Config().GetCertificate(&tls.ClientHelloInfo{})
			if err != nil || hello.Leaf.Subject.CommonName != want {
				t.Errorf("%v, %v; want %s", hello.Leaf.Subject.CommonName, err, want)
			}
		}
		sees("first")
		replace(t, next, certificate)
		sees("first") // the key is not there yet
		sees("first")
		if n := strings.Count(log.String(), "the one before stays in use"); n != 1 {
			t.Errorf("said %d times: %s", n, log.String())
		}
		if err := c.Reload(); err == nil || !strings.Contains(err.Error(), certificate) {
			t.Errorf("reloaded: %v", err)
		}
		replace(t, nextKey, key)
		sees("second")
		if !strings.Contains(log.String(), "certificate reloaded") || strings.Contains(log.String(), "PRIVATE") {
			t.Errorf("the log: %s", log.String())
		}
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		sees("second")
		sees("second")
		if n := strings.Count(log.String(), "the one before stays in use"); n != 2 {
			t.Errorf("said %d times of two reasons: %s", n, log.String())
		}
		replace(t, nextKey, key)
		sees("second")
	})
}

// TestReadAgain: what could not be read is read again, although its time and size stay as they are, as those of a file do whose owner or
// mode is set after it is written.
func TestReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate, key := testservers.WriteCertificate(t, dir, "first", time.Hour)
	next, nextKey := testservers.WriteCertificate(t, dir, "second", 2*time.Hour)
	synctest.Test(t, func(t *testing.T) {
		c, err := servercert.Open(servercert.Files{Certificate: certificate, Key: key}, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		sees := func(want string) {
			t.Helper()
			<-time.After(2 * time.Second) // of the test's own clock
			hello, err := c.Config().GetCertificate(&tls.ClientHelloInfo{})
			if err != nil || hello.Leaf.Subject.CommonName != want {
				t.Errorf("%v, %v; want %s", hello.Leaf.Subject.CommonName, err, want)
			}
		}
		replace(t, next, certificate)
		text, err := os.ReadFile(nextKey)
		if err != nil {
			t.Fatal(err)
		}
		written := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
		for _, text := range [][]byte{bytes.Repeat([]byte{'x'}, len(text)), text} {
			err := errors.Join(os.WriteFile(key, text, 0o600), os.Chtimes(key, written, written))
			if err != nil {
				t.Fatal(err)
			}
			if text[0] == 'x' {
				sees("first")
				if c.Reload() == nil {
					t.Error("it is reloaded")
				}
			}
		}
		sees("second")
	})
}

// TestPin: a client that knows the certificate takes that one, under any name, and no other.
func TestPin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate, key := testservers.WriteCertificate(t, dir, "here", time.Hour)
	other, _ := testservers.WriteCertificate(t, dir, "there", time.Hour)
	c, err := servercert.Open(servercert.Files{Certificate: certificate, Key: key}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	pin := func(file string) *tls.Config {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		config, err := servercert.Pin(text)
		if err != nil {
			t.Fatal(err)
		}
		config.ServerName = "10.0.0.5"
		return config
	}
	if name, err := shown(t, c.Config(), pin(certificate)); err != nil || name != "here" {
		t.Errorf("%q, %v", name, err)
	}
	if _, err := shown(t, c.Config(), pin(other)); err == nil || !strings.Contains(err.Error(), "another certificate") {
		t.Errorf("another certificate is taken: %v", err)
	}
	old := pin(certificate)
	old.MinVersion, old.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
	if _, err := shown(t, c.Config(), old); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	for _, text := range []string{"", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, err := servercert.Pin([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
