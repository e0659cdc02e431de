package control

import "gancho/delivery"

// makeSecret makes the key that the operation's answer shows.
func makeSecret(ed25519 bool) (delivery.Secret, error) {
	if ed25519 {
		return delivery.Secret{}, invalid("/ed25519", "", "this version signs with HMAC only")
	}
	return delivery.GenerateSecret(), nil
}

// publicOf is the public half of an asymmetric key.
func publicOf(s delivery.Secret) string {
	if p, ok := any(s).(interface{ Public() string }); ok {
		return p.Public()
	}
	return ""
}
