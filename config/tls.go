package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/url"
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
			t.CA = decodePEM(v, dir)
			if t.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(t.CA)) {
				v.Errorf("write PEM, -----BEGIN CERTIFICATE-----", "the ca holds no certificate")
			}
		}),
		strictyaml.Optional("certificate", func(v value) { certificate, t.Certificate = v, certificates(decodePEM(v, dir)) }),
		strictyaml.Optional("key", func(v value) { key, t.Key = v, Secret(decodePEM(v, dir)) }),
	)
	switch {
	case certificate.Valid() != key.Valid():
		v.Errorf("write both, or neither", "a certificate that is shown to the receiver needs its key, and a key its certificate")
	case t.Certificate != "" && t.Key != "":
		// The error is not repeated: it is about the key.
		if _, err := tls.X509KeyPair([]byte(t.Certificate), []byte(t.Key)); err != nil {
			certificate.Errorf("write both as PEM; the key without a password", "the certificate and the key do not belong together or cannot be read")
		}
	}
}

// certificates leaves out what else is in a PEM text: many keep the private key
// in the same file, and certificates are shown. A text without any is left as it
// is, for the error.
func certificates(text string) string {
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

// maxPEM bounds the size of a file with certificates or a key, in bytes.
const maxPEM = 1 << 20

func decodePEM(v value, dir string) string {
	text := v.Text()
	switch {
	case text == "" || strings.Contains(text, "-----BEGIN "):
		return text
	case dir == "":
		shown(v, text)
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
		v.Errorf("write a file's name, relative to this file, or the PEM text itself", "read it: %v", err)
		return ""
	}
	v.Errorf("write the name of a file with PEM", "%s is empty, larger than 1 MiB or no file", text)
	return ""
}

// decodeProxy reads the URL of a proxy. It is not repeated in messages: it may
// hold a password.
func decodeProxy(v value) Secret {
	const hint = "write such as http://proxy.example.com:3128, with user:password@ before the host where needed"
	text := v.Text()
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" || u.Hostname() == "":
		v.Errorf(hint, "this is not the URL of an HTTP proxy")
		return ""
	case u.Port() == "":
		v.Errorf(hint, "the URL of the proxy has no port")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		v.Errorf(hint, "the URL of a proxy ends with its port")
	}
	if password, ok := u.User.Password(); ok {
		shown(v, password)
	}
	return Secret(text)
}
