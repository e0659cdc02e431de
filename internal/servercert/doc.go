// Package servercert holds the certificate that a listener of ours shows: read from two files, and read again when they change, so
// that whoever renews it (certbot, a company's own authority) needs no restart.
//
// A renewal that cannot be used, such as a certificate whose key has not been written yet, changes nothing: the one before stays in
// use, the log says why, and the files are looked at again. [Certificate.Reload] returns it as an error instead.
package servercert
