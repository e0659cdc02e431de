package doctor

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"time"

	"gancho/cdc"
	"gancho/internal/servercert"
)

// Listener is one of ours that speaks TLS: its setting, such as http.tls, and its files.
type Listener struct {
	Where string
	Files servercert.Files
}

// listeners reads the certificates that the bridge shows.
func (x *examination) listeners() {
	for _, l := range x.Listeners {
		pair, err := l.Files.Read()
		if errors.Is(err, fs.ErrPermission) {
			x.skip("listener.certificate", l.Where, "this user may not read its files, which the bridge's can: "+oneLine(err))
			continue
		}
		if err != nil {
			x.add(cdc.Finding{
				ID: "listener.certificate", Severity: cdc.SeverityProblem, Where: l.Where, Title: "its certificate cannot be used: " + oneLine(err),
				Why: "a bridge that runs shows the certificate from before, and none starts", Remedy: "make both files readable for the bridge's user, and the key that of this certificate",
			})
			continue
		}
		var until time.Time
		for _, text := range pair.Certificate {
			if c, err := x509.ParseCertificate(text); err == nil && (until.IsZero() || c.NotAfter.Before(until)) {
				until = c.NotAfter
			}
		}
		x.lasts("listener.certificate", l.Where, "the certificate that its clients see", "", until, "clients refuse to connect from then on")
	}
}
