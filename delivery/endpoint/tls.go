package endpoint

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gancho/internal/strictyaml"
)

// decode reads tls: {ca, certificate, key}: PEM texts, or names of files in dir.
func (t *TLS) decode(v value, dir string) {
	var key, certificate value
	v.Map(
		strictyaml.Optional("ca", func(v value) {
			if t.CA = decodePEM(v, dir); t.CA != "" {
				_, m := caPool(t.CA)
				m.at(v)
			}
		}),
		strictyaml.Optional("certificate", func(v value) { certificate, t.Certificate = v, certificatesOnly(decodePEM(v, dir)) }),
		strictyaml.Optional("key", func(v value) { key, t.Key = v, Hidden(decodePEM(v, dir)) }),
	)
	if certificate.Valid() != key.Valid() {
		checkPair(certificate.Valid(), key.Valid()).at(v)
	} else if t.Certificate != "" && t.Key != "" {
		_, m := t.pair()
		m.at(certificate)
	}
}

// Config returns a new configuration of what the fields say, for TLS 1.2 and
// later. Its error is a SettingError.
func (t TLS) Config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pool, m := caPool(t.CA)
		if m != nil {
			return nil, m
		}
		c.RootCAs = pool
	}
	if m := checkPair(t.Certificate != "", t.Key != ""); m != nil {
		return nil, m
	}
	if t.Certificate != "" {
		pair, m := t.pair()
		if m != nil {
			return nil, m
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func (t TLS) document(show func(Hidden) string) document {
	d := document{}
	d.add("ca", t.CA, t.CA != "")
	d.add("certificate", t.Certificate, t.Certificate != "")
	d.add("key", show(t.Key), t.Key != "")
	return d
}

func (t TLS) checkScheme(scheme string) *SettingError {
	if scheme == "http" && t != (TLS{}) {
		return mistakef("write https://, or remove tls", "the url is http, where tls has no effect")
	}
	return nil
}

func checkPair(certificate, key bool) *SettingError {
	if certificate != key {
		return mistakef("write both, or neither", "a certificate that is shown to the receiver needs its key, and a key its certificate")
	}
	return nil
}

func (t TLS) pair() (tls.Certificate, *SettingError) {
	pair, err := tls.X509KeyPair([]byte(t.Certificate), []byte(t.Key))
	if err != nil { // it is not repeated: it is about the key
		return pair, mistakef("write both as PEM; the key without a password", "the certificate and the key do not belong together or cannot be read")
	}
	return pair, nil
}

// caPool reads every certificate. One that cannot be read is a mistake: a CA
// left out by accident is found when it is too late.
func caPool(text string) (*x509.CertPool, *SettingError) {
	pool, n := x509.NewCertPool(), 0
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		n++
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" {
			return nil, mistakef("give the CA's certificates in PEM", "block %d of the ca (%.40q) is not a certificate", n, block.Type)
		}
		pool.AddCert(certificate)
	}
	if n == 0 {
		return nil, mistakef("write PEM, -----BEGIN CERTIFICATE-----", "the ca holds no certificate")
	}
	return pool, nil
}

// certificatesOnly leaves out what else is in a PEM text: many keep the private
// key in the same file, and certificates are shown. A text without any is left as
// it is, for the error.
func certificatesOnly(text string) string {
	var out bytes.Buffer
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			out.Write(pem.EncodeToMemory(block))
		}
	}
	if out.Len() == 0 {
		return text
	}
	return out.String()
}

func decodePEM(v value, dir string) string {
	text := v.Text()
	switch {
	case text == "" || strings.Contains(text, "-----BEGIN "):
		return text
	case dir == "":
		refuseMask(v, text)
		v.Errorf("write the text itself, -----BEGIN ...", "it is not PEM")
		return ""
	}
	if !filepath.IsAbs(text) {
		text = filepath.Join(dir, text)
	}
	info, err := os.Stat(text)
	if err == nil && info.Size() <= maxPEM && info.Mode().IsRegular() {
		var content []byte
		if content, err = os.ReadFile(text); err == nil && len(content) > 0 {
			return string(content)
		}
	}
	if err != nil {
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			err = failed.Err // its name is not repeated: it may be a key without -----BEGIN
		}
		v.Errorf("write a file's name, relative to this file, or the PEM text itself", "read the file that is named here: %v", err)
		return ""
	}
	v.Errorf("write the name of a file with PEM", "what is named here is empty, larger than 1 MiB or no file")
	return ""
}
