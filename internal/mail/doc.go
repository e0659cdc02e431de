// Package mail sends messages over SMTP (RFC 5321), one connection for each: notices are rare.
//
// A connection to another machine is encrypted, or nothing is sent: by TLS from the start
// (smtps://), or by STARTTLS (smtp://), which a server that does not offer it is not spared.
// Every step has a time limit. Whoever sends owns the retries.
package mail
