package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gancho/delivery/endpoint"
)

// signatureTolerance is how far the sender's clock may be from the receiver's:
// what the specification's own libraries take.
const signatureTolerance = 5 * time.Minute

// The versions of signatures, all over "id.timestamp.body".
const (
	signatureHMAC    = "v1,"  // HMAC-SHA256
	signatureEd25519 = "v1a," // ed25519
)

// signer makes the signatures of one secret. HMAC's hashes keep the state
// after the key's block, so a signature costs only the blocks of the message.
// Safe for concurrent use.
type signer struct {
	private ed25519.PrivateKey // nil: HMAC
	hashes  sync.Pool          // of *keyedHash
}

type keyedHash struct {
	hash.Hash
	sum [sha256.Size]byte
}

func newSigner(s endpoint.Secret) *signer {
	key := slices.Clone(s.HMACKey())
	return &signer{
		private: slices.Clone(s.SigningKey()),
		hashes:  sync.Pool{New: func() any { return &keyedHash{Hash: hmac.New(sha256.New, key)} }},
	}
}

// appendSignature appends "v1,<base64>" or "v1a,<base64>" of signed, which is
// "id.timestamp.body".
func (s *signer) appendSignature(dst, signed []byte) []byte {
	if s.private != nil {
		return base64.StdEncoding.AppendEncode(append(dst, signatureEd25519...), ed25519.Sign(s.private, signed))
	}
	h, _ := s.hashes.Get().(*keyedHash) // the pool holds nothing else
	defer s.hashes.Put(h)
	h.Reset()
	_, _ = h.Write(signed) // a hash never fails to be written
	return base64.StdEncoding.AppendEncode(append(dst, signatureHMAC...), h.Sum(h.sum[:0]))
}

// appendSignatures appends the header's value: one signature per secret, separated
// by spaces.
func appendSignatures(dst []byte, signers []*signer, signed []byte) []byte {
	for i, s := range signers {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = s.appendSignature(dst, signed)
	}
	return dst
}

// Errors of Verify.
var (
	// ErrNotSigned: one of the three headers is missing.
	ErrNotSigned = errors.New("the request is not signed: webhook-id, webhook-timestamp or webhook-signature is missing")
	// ErrSignature: no signature belongs to the body and one of the secrets.
	ErrSignature = errors.New("no signature matches: the secret is another one, or the body was changed on the way")
	// ErrTimestamp: the timestamp is no number, or over five minutes from now.
	ErrTimestamp = errors.New("the timestamp is not within five minutes of this machine's clock: a replay, or a wrong clock")
)

// Verify checks a request's Standard Webhooks signature against every secret
// or public key, as a receiver would: any one that matches is enough, so that
// either side can rotate first. The comparison takes constant time.
func Verify(secrets []endpoint.Secret, header http.Header, body []byte, now time.Time) error {
	id, stamp, signatures := header.Get(endpoint.HeaderID), header.Get(endpoint.HeaderTimestamp), header.Get(endpoint.HeaderSignature)
	if id == "" || stamp == "" || signatures == "" {
		return ErrNotSigned
	}
	signed := fmt.Appendf(nil, "%s.%s.", id, stamp)
	signed = append(signed, body...)
	if !slices.ContainsFunc(secrets, func(s endpoint.Secret) bool { return matches(s, signed, signatures) }) {
		return ErrSignature
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > signatureTolerance {
		return ErrTimestamp
	}
	return nil
}

// matches: an empty secret matches nothing, whatever the sender may have
// signed with an empty key.
func matches(s endpoint.Secret, signed []byte, signatures string) bool {
	public := s.PublicKey()
	var want []byte
	switch {
	case public != nil:
	case len(s.HMACKey()) > 0:
		want = newSigner(s).appendSignature(nil, signed)
	default:
		return false
	}
	return slices.ContainsFunc(strings.Split(signatures, " "), func(signature string) bool {
		if public == nil {
			return hmac.Equal([]byte(signature), want)
		}
		encoded, ok := strings.CutPrefix(signature, signatureEd25519)
		raw, err := base64.StdEncoding.DecodeString(encoded)
		return ok && err == nil && ed25519.Verify(public, signed, raw)
	})
}

// SignedHeader returns the header of a request to the endpoint with one message and this body, which is signed: for a body that was
// made elsewhere. It has what Send would add but for what the format says of the body. The error is a SettingError.
func SignedHeader(ep *endpoint.Endpoint, version string, m *Message, body []byte, at time.Time) (http.Header, error) {
	t := prepare(ep, version)
	if t.err != nil {
		return nil, t.err
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	signed := append([]byte(m.ID+"."+stamp+"."), body...)
	d := &draft{ms: []*Message{m}, id: m.ID, stamp: []byte(stamp), body: body, signatures: appendSignatures(nil, t.signers, signed)}
	return t.header(d), nil
}
