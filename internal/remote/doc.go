// Package remote does over the HTTP API what internal/control does in the process: a [Client] has the
// operations that the commands use, with the same arguments and the same answers, so that a command is
// the same code on the server and on a desk.
//
// Errors are those of control, too, as far as a caller or a person can tell them apart: what does not exist is
// state.ErrNotFound, a conflict state.ErrConflict, wrong input a *control.InvalidError. Everything else is an
// *AnswerError with the sentence that the bridge has answered, or an *UnreachableError. The Actor of each
// call is ignored: the bridge knows the token.
//
// A token is sent over TLS, or to this machine; New refuses other addresses. No error holds a token, a query
// or a body. A redirect is not followed: it would lead the token elsewhere.
//
// Logins are tokens by address, in a file of the user's that nobody else may read.
package remote
