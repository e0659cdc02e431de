package control

import "gancho/delivery"

// makeSecret makes the key that the operation's answer shows.
func makeSecret(ed25519 bool) delivery.Secret {
	if ed25519 {
		return delivery.GenerateSigningKey()
	}
	return delivery.GenerateSecret()
}
