// Package control has what people do with a running Gancho: look after its
// endpoints, see what was sent, send it again. The command line and the HTTP
// API are two thin layers over it, and print the same views.
//
// Every operation takes the Actor that asks. What the actor's role does not
// allow is a *ForbiddenError; what its tenant does not own does not exist for
// it: the error is state.ErrNotFound, as for a name that was never there, and
// comes from the same place. A tenant's endpoints are those whose tenants are
// exactly that one, and its rows those that carry it.
//
// A change is checked whole before anything is written (*InvalidError lists
// all that is wrong), is written together with its line of the audit log, and
// takes effect in the running bridges by itself. An endpoint of gancho.yaml
// can be read, tested and activated; all else is a *ReadOnlyError.
//
// What needs the state database says ErrNoState when gancho.yaml has no
// state.key. Signing keys and tokens appear in one answer only, that of the
// operation that made them; all other views are free of secrets, and fit for
// logs except for what they name so (bodies, answers, ordering keys).
//
// A Service holds no locks and starts no goroutines; it is safe for concurrent
// use.
package control
