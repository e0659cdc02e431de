// Package control has what people do with a running Gancho: manage its
// endpoints, see what was sent, send it again. The command line and the HTTP
// API are two thin layers over it, and print the same records: those of the
// packages that know them ([state.Job], [queue.Stats], [webhook.Exchange]), and
// a view of its own where two of them meet ([EndpointView]).
//
// Every operation gets the Actor that asks. What the actor's role does not allow
// is a *ForbiddenError. What belongs to another tenant does not exist for the
// actor: the error is state.ErrNotFound, as for a name that never existed, and
// comes from the same place. A tenant's endpoints are those whose tenants are
// exactly that one; its rows are those with that tenant.
//
// A change is checked whole before anything is written (*InvalidError lists
// every mistake), is written together with its entry of the audit log, and
// takes effect in the running bridges automatically. An endpoint of gancho.yaml
// can be read, tested and activated; everything else is a *ReadOnlyError.
//
// Without state.key in gancho.yaml, operations that need the state database
// return ErrNoState. A signing key or a token is in one answer only, that of the
// operation that created it; all other answers are free of secrets, and fit for
// logs except for the fields that say otherwise (bodies, answers, ordering keys).
//
// A Service starts no goroutines, and holds a lock only while it reads the log for all
// tails at once; it is safe for concurrent use.
package control
