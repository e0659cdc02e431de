package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/testservers"
)

// TestChatsReadTitles: what a running bridge sends to chats has the title of the rule, that of the rules as they are now, and of a
// rule without one the event's name.
func TestChatsReadTitles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, "create table contratos (id int primary key, empresa_id int, cliente text)")
	const rules = `rules:
  - {event: contrato.novo, title: TITLE, table: contratos, on: insert, tenant: empresa_id, key: id, columns: [id, cliente]}
  - {event: contrato.alterado, table: contratos, on: update, tenant: empresa_id, key: id, columns: [id]}
`
	w.rules = strings.Replace(rules, "TITLE", "Novo contrato <assinado>", 1)
	chat := newReceiver(t, func(w http.ResponseWriter, a arrival) {
		answer := "ok"
		if strings.Contains(string(a.body), `"chat_id"`) {
			answer = `{"ok":true,"result":{}}`
		}
		_, _ = io.WriteString(w, answer)
	})
	w.endpoint("slack", chat.url()+"/services/T0/B0/X", "style: slack")
	w.endpoint("telegram", chat.url()+"/bot1:x/sendMessage", "style: telegram", "extra: {chat_id: '-1001'}")
	w.endpoint("discord", chat.url()+"/api/webhooks/1/x", "style: discord")
	b := w.run()
	arrived := 0
	expect := func(want map[string]string) {
		t.Helper()
		all := chat.waitFor(time.Minute, "three messages", func(all []arrival) bool { return len(all) >= arrived+len(want) })
		got := map[string]string{}
		for _, a := range all[arrived:] {
			var m struct{ Text, Content string }
			if err := json.Unmarshal(a.body, &m); err != nil {
				t.Fatal(err)
			}
			switch {
			case m.Content != "":
				got["discord"] = m.Content
			case strings.Contains(string(a.body), `"chat_id"`):
				got["telegram"] = m.Text
			default:
				got["slack"] = m.Text
			}
		}
		arrived = len(all)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
	w.exec("insert into contratos values (1, 7, 'Ana')")
	expect(map[string]string{
		"slack": "Novo contrato &lt;assinado&gt;\ntenant: 7\nid: 1\ncliente: Ana", "telegram": "Novo contrato <assinado>\ntenant: 7\nid: 1\ncliente: Ana",
		"discord": "**Novo contrato \\<assinado\\>**\ntenant: 7\nid: 1\ncliente: Ana",
	})
	w.exec("update contratos set cliente = 'Bia' where id = 1")
	expect(map[string]string{"slack": "contrato.alterado\ntenant: 7\nid: 1", "telegram": "contrato.alterado\ntenant: 7\nid: 1", "discord": "**contrato.alterado**\ntenant: 7\nid: 1"})

	w.rules = strings.Replace(rules, "TITLE", "Contrato assinado", 1)
	w.write()
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	b.waitLog("configuration reloaded")
	w.exec("insert into contratos values (2, 7, null)")
	expect(map[string]string{"slack": "Contrato assinado\ntenant: 7\nid: 2", "telegram": "Contrato assinado\ntenant: 7\nid: 2", "discord": "**Contrato assinado**\ntenant: 7\nid: 2"})
	b.stop()
}
