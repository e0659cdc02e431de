package doctor_test

import (
	"testing"
	"time"

	"gancho/cdc"
	"gancho/internal/doctor"
	"gancho/internal/servercert"
	"gancho/internal/testservers"
)

// TestListener: a certificate is counted down, one that cannot be used is a problem, and one that only the bridge's user may read is
// left to that user.
func TestListener(t *testing.T) {
	t.Parallel()
	certificate, key := testservers.WriteCertificate(t, t.TempDir(), "a", time.Hour)
	for _, c := range []struct {
		files    servercert.Files
		severity cdc.Severity
		words    string
	}{
		{servercert.Files{Certificate: certificate, Key: key}, cdc.SeverityProblem, "expires in"},
		{servercert.Files{Certificate: certificate, Key: certificate}, cdc.SeverityProblem, "cannot be used"},
		{servercert.Files{Certificate: certificate, Key: key + "x"}, cdc.SeverityProblem, "no such file"},
		{servercert.Files{Certificate: certificate, Key: testservers.Unreadable(t)}, cdc.SeveritySkipped, "this user may not read its files"},
	} {
		r := doctor.Run(t.Context(), doctor.Options{Listeners: []doctor.Listener{{Where: "http.tls", Files: c.files}}})
		want(t, &r, "listener.certificate", c.severity, c.words)
	}
}
