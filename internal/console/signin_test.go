package console_test

import (
	"net/http"
	"strings"
	"testing"

	"gancho/internal/state"
)

// Who pastes a token has a session until they sign out, or until the token is revoked.
func TestSignIn(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	b := w.visitor()
	b.open("/console/audit?object=x").shows(http.StatusOK, "Token da API")
	if b.at.Path != "/console/sign-in" {
		t.Errorf("a stranger is led to %s", b.at)
	}
	b.submit("Entrar", "Token da API", "gancho_errado").shows(http.StatusUnprocessableEntity, "Este token não vale")
	if strings.Contains(b.body, "gancho_errado") {
		t.Error("the page repeats the token")
	}
	name, text := w.token(state.Viewer, "")
	b.submit("Entrar", "Token da API", text).shows(http.StatusOK, "Auditoria", "token:"+name)
	if b.at.String() != w.url+"/console/audit?object=x" {
		t.Errorf("signing in leads to %s", b.at)
	}
	b.open("/console/access").shows(http.StatusForbidden, "Isto exige o papel administrador")
	b.submit("Sair").shows(http.StatusOK, "Você saiu.")
	b.open("/console/").shows(http.StatusOK, "Token da API")

	admin := w.as(state.Admin, "")
	b = w.as(state.Viewer, "1")
	admin.open("/console/access").submit("Revogar o token "+b.token).shows(http.StatusOK, "O token foi revogado")
	b.open("/console/").shows(http.StatusOK, "Token da API")
}
