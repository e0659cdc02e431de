package webhook

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // receivers that know nothing newer; HMAC-SHA1 is not broken
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"io"
	"net/textproto"
	"slices"
	"sync"

	"gancho/delivery/endpoint"
)

// vendorSigner makes the signature that an endpoint.Signature describes. Safe for
// concurrent use.
type vendorSigner struct {
	header    string
	of, value endpoint.Template
	encoding  endpoint.Encoding
	prefix    string
	separator string       // empty: one signature
	hashes    []*sync.Pool // of hash.Hash, one for each HMAC secret, the newest first
}

// newVendorSigners returns the signers of an endpoint, and the headers that their receivers
// want beside them, as templates by the keys of http.Header.
func newVendorSigners(ep *endpoint.Endpoint) (signers []*vendorSigner, headers map[string]string) {
	headers = map[string]string{}
	for _, s := range ep.Signatures {
		s = s.Resolve()
		signer := &vendorSigner{
			header: textproto.CanonicalMIMEHeaderKey(s.Header), of: endpoint.ParseTemplate(s.Of), value: endpoint.ParseTemplate(s.Value),
			encoding: s.Encoding, prefix: s.Prefix, separator: s.Separator,
		}
		for _, secret := range ep.Secrets {
			if key, _ := secret.Key(s.Key); key != nil { // Check has seen that it has the form
				signer.hashes = append(signer.hashes, hashPool(s.Algorithm, slices.Clone(key)))
			}
		}
		if len(signer.hashes) == 0 {
			continue
		}
		signers = append(signers, signer)
		for name, text := range s.Headers() {
			headers[name] = text
		}
	}
	return signers, headers
}

// hashPool keeps the hashes of a key, which have the state after the key's block.
func hashPool(algorithm endpoint.Algorithm, key []byte) *sync.Pool {
	newHash := map[endpoint.Algorithm]func() hash.Hash{
		endpoint.HMACSHA256: sha256.New, endpoint.HMACSHA1: sha1.New, endpoint.HMACSHA512: sha512.New,
	}[algorithm]
	return &sync.Pool{New: func() any { return hmac.New(newHash, key) }}
}

// signedParts is what signatures are of.
type signedParts struct {
	id, stamp string
	body      []byte
}

func (s *signedParts) fill(dst []byte, name string) []byte {
	switch name {
	case "id":
		return append(dst, s.id...)
	case "timestamp":
		return append(dst, s.stamp...)
	case "body":
		return append(dst, s.body...)
	}
	return dst
}

// headerValue returns the header's value. Where it has one signature, that is of the
// secret with the number key, modulo how many there are.
func (v *vendorSigner) headerValue(s *signedParts, key int) string {
	var made []byte
	if v.separator == "" {
		made = v.appendSignature(made, s, v.hashes[key%len(v.hashes)])
	} else {
		for i, hashes := range v.hashes {
			if i > 0 {
				made = append(made, v.separator...)
			}
			made = v.appendSignature(made, s, hashes)
		}
	}
	return string(v.value.Append(nil, func(dst []byte, name string) []byte {
		if name == "signature" {
			return append(dst, made...)
		}
		return s.fill(dst, name)
	}))
}

func (v *vendorSigner) appendSignature(dst []byte, s *signedParts, hashes *sync.Pool) []byte {
	h, _ := hashes.Get().(hash.Hash) // the pool holds nothing else
	defer hashes.Put(h)
	h.Reset()
	v.of.Each(func(text, name string) { // a hash never fails to be written
		switch name {
		case "":
			_, _ = io.WriteString(h, text)
		case "body": // which is not copied
			_, _ = h.Write(s.body)
		default:
			_, _ = h.Write(s.fill(nil, name))
		}
	})
	dst, sum := append(dst, v.prefix...), h.Sum(nil)
	if v.encoding == endpoint.Base64 {
		return base64.StdEncoding.AppendEncode(dst, sum)
	}
	return hex.AppendEncode(dst, sum)
}
