package servercert

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// lookEvery is how often the files are looked at, while there are handshakes.
const lookEvery = time.Second

// Files are those of a certificate with its chain and of its key, in PEM; none: the listener speaks plain HTTP.
type Files struct{ Certificate, Key string }

// On reports whether the listener speaks TLS.
func (f Files) On() bool { return f.Certificate != "" }

// Read reads both, and says of a mistake what to do. Its leaf is parsed.
func (f Files) Read() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return nil, fmt.Errorf("read the certificate %s with its key: %w; it is PEM, the server's certificate first, and the key has no password", f.Certificate, err)
	}
	return &pair, nil
}

// state is what of the files changes when they do.
type state struct {
	modified [2]time.Time
	size     [2]int64
}

func (f Files) look() (s state, err error) {
	for i, name := range []string{f.Certificate, f.Key} {
		info, failed := os.Stat(name)
		if failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		s.modified[i], s.size[i] = info.ModTime(), info.Size()
	}
	return s, err
}

// Certificate is the one of a listener. It is safe for concurrent use.
type Certificate struct {
	files Files
	log   zerolog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	seen   state // of the files, when they were read last; a read that failed is tried again
	looked time.Time
	failed string // why the last read did, which is logged
}

// Open reads the files.
func Open(f Files, log zerolog.Logger) (*Certificate, error) {
	c := &Certificate{files: f, log: log}
	return c, c.Reload()
}

// Reload reads the files now. After an error the certificate is the one before.
func (c *Certificate) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.files.look() // what is not there cannot be read either
	c.looked = time.Now()
	return c.readLocked(now)
}

// readLocked reads the files, whose state was this before.
func (c *Certificate) readLocked(now state) error {
	pair, err := c.files.Read()
	if err == nil {
		c.pair, c.seen, c.failed = pair, now, ""
	}
	return err
}

// current is the certificate of the files as they are now.
func (c *Certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookEvery {
		return c.pair
	}
	c.looked = time.Now()
	now, _ := c.files.look() // as above
	if now == c.seen {
		c.failed = ""
		return c.pair
	}
	if err := c.readLocked(now); err != nil {
		if c.failed != err.Error() {
			c.failed = err.Error()
			c.log.Error().Err(err).Msg("certificate not reloaded; the one before stays in use")
		}
		return c.pair
	}
	c.log.Info().Str("file", c.files.Certificate).Time("expires", c.pair.Leaf.NotAfter).Msg("certificate reloaded")
	return c.pair
}

// Config returns a server's configuration with the certificate, for TLS 1.2 and later.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
	}
}

// Pin returns a client's configuration for a server that has to show this certificate, in PEM, under whatever name it is asked: for
// commands on the server's own machine, which reach it by an address that its certificate does not name.
func Pin(certificate []byte) (*tls.Config, error) {
	block, _ := pem.Decode(certificate)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("read the certificate: it is not PEM")
	}
	want, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection compares the certificate itself, which says more than its name
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, want.Raw) {
				return errors.New("the server shows another certificate than that of the configuration")
			}
			return nil
		},
	}, nil
}
