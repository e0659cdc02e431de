package control

import "gancho/delivery/endpoint"

// makeSecret makes the key that the operation's answer shows.
func makeSecret(ed25519 bool) endpoint.Secret {
	if ed25519 {
		return endpoint.GenerateSigningKey()
	}
	return endpoint.GenerateSecret()
}
