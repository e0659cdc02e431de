package endpoint_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/endpoint"
	"gancho/internal/strictyaml"
)

var update = flag.Bool("update", false, "write the golden files again")

// listOf reads the endpoints of a configuration file, and nothing else of it.
func listOf(t *testing.T, file string) ([]*endpoint.Endpoint, error) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := strictyaml.Parse(file, src, func(name string) (string, bool) {
		v, ok := map[string]string{"CRM_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqrTwjU", "CRM_KEY": "segredo"}[name]
		return v, ok
	})
	var list []*endpoint.Endpoint
	for _, entry := range d.Root().Entries() {
		if entry.Name == "endpoints" {
			list = endpoint.DecodeList(entry.Value)
		}
	}
	return list, d.Errors().Err()
}

// Every file of testdata is read: a wrong one gives exactly the messages of its
// golden file, a right one the endpoints there, with secrets hidden.
func TestDecodeList(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 7 {
		t.Fatalf("found %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			list, err := listOf(t, file)
			var got string
			if err != nil {
				if strings.Contains(file, "valid_") {
					t.Fatal(err)
				}
				got = err.Error() + "\n"
			}
			for _, e := range list {
				if err != nil {
					break
				}
				var public bytes.Buffer
				if err := json.Indent(&public, e.Public(), "", "  "); err != nil {
					t.Fatal(err)
				}
				got += fmt.Sprintf("%s %s %v\n%s\n", e.Name, e.State, e.Secrets, &public)
			}
			if strings.Contains(got, "segredo") {
				t.Error("a secret is shown")
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got; go test ./delivery/endpoint -update writes it again:\n%s", diff)
			}
		})
	}
}

// Mistakes that depend on two keys have the place of one of them.
func TestPlacesOfMistakes(t *testing.T) {
	t.Parallel()
	certificate, err := json.Marshal(pemFile(t, "certificate"))
	if err != nil {
		t.Fatal(err)
	}
	for src, want := range map[string]string{
		`{"url": "http://x.com", "allow_http": true, "tls": {"ca": ` + string(certificate) + `}}`: `e:1:52: the url is http, where tls has no effect; write https://, or remove tls`,
		`{"url": "https://x.com", "format": "cloudevents-binary", "headers": {"ce-loja": "1"}}`:   `e:1:70: the header Ce-Loja is an attribute of the event in the format cloudevents-binary; write it in extra, without ce-`,
		`{"url": "https://x.com", "format": "form", "extra": {" data[a]": "1"}}`:                  `e:1:54: the field data is set by Gancho; give it another name`,
		`{"url": "https://x.com", "format": "cloudevents", "extra": {"loja": "a\nb"}}`:            `e:1:69: the value of the extra field loja has a control character, which CloudEvents does not allow; remove it`,
		`{"url": "https://192.0.2.1"}`:                                                 `e:1:9: the url leads to the private address 192.0.2.1 (192.0.2.0/24: documentation); write allow_private: [192.0.2.1/32] if that is meant`,
		`{"url": "https://x.com", "batch": {"max": 1001}}`:                             `e:1:43: 1001 is out of range: it must be from 2 to 1000`,
		`{"url": "https://x.com", "secret": "whsk_` + strings.Repeat("A", 85) + `E="}`: `e:1:36: the two halves of the ed25519 key do not belong together; copy it again`,
		`{"url": "https://x.com", "tls": {"ca": ` + strings.TrimSuffix(string(certificate), `"`) + `-----BEGIN X-----\n-----END X-----\n"}}`: `e:1:40: block 2 of the ca ("X") is not a certificate; give the CA's certificates in PEM`,
	} {
		_, err := endpoint.Parse("e", []byte(src))
		if err == nil {
			t.Errorf("%s is accepted", src)
			continue
		}
		if diff := cmp.Diff(want, err.Error()); diff != "" {
			t.Errorf("%s -want +got:\n%s", src, diff)
		}
	}
}
