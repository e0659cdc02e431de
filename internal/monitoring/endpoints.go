package monitoring

import "time"

func endpointList() []Watch {
	endpoint := []string{"endpoint"}
	return []Watch{
		{Metric: "gancho_backlog_events", By: endpoint, Group: Endpoints, Title: Text{"Events queued", "Eventos na fila"}},
		{Metric: "gancho_backlog_bytes", By: endpoint, Unit: Bytes, Group: Endpoints, Title: Text{"Memory of the backlog", "Memória da fila"}},
		{Metric: "gancho_oldest_event_age_seconds", By: endpoint, Unit: Seconds, Group: Endpoints, Title: Text{"Age of the oldest event queued", "Idade do evento mais antigo na fila"}, Alerts: []Alert{{
			Name: "GanchoEndpointLate", Condition: Condition{Above: 3600}, For: 5 * time.Minute, Severity: Warning, Runbook: "What to watch",
			Title: Text{"Endpoint {endpoint} is more than an hour late", "Endpoint {endpoint} está mais de uma hora atrasado"},
			Text:  Text{"Its receiver does not take its events, or it is paused. The source does not suffer from it.", "O receptor não aceita os eventos, ou o endpoint está pausado. A origem não sofre com isso."},
		}}},
		{Metric: "gancho_endpoint_down", By: endpoint, Unit: Flag, Group: Endpoints, Title: Text{"Breaker is open", "Só sondas são enviadas"}, Alerts: []Alert{{
			Name: "GanchoEndpointDown", Condition: Condition{}, For: 5 * time.Minute, Severity: Warning, Runbook: "What to watch",
			Title: Text{"Endpoint {endpoint} fails every event", "Endpoint {endpoint} falha em todo evento"},
			Text:  Text{"Only probes are sent. gancho endpoints show has the last answer.", "Só se enviam sondas. gancho endpoints show tem a última resposta."},
		}}},
		{Metric: "gancho_endpoint_paused", By: endpoint, Unit: Flag, Group: Endpoints, Title: Text{"Paused or suspended", "Pausado ou suspenso"}},
		{Metric: "gancho_endpoint_delivered", By: endpoint, Unit: Flag, Group: Endpoints, Title: Text{"A process delivers", "Um processo entrega"}},
		{Metric: "gancho_attempts_total", By: []string{"endpoint", "outcome"}, Kind: Counter, Group: Endpoints, Title: Text{"Attempts per second", "Tentativas por segundo"}},
		{Metric: "gancho_superseded_events_total", By: endpoint, Kind: Counter, Group: Endpoints, Title: Text{"Events superseded per second", "Eventos superados por segundo"}},
		{Metric: "gancho_commit_to_delivered_seconds", By: endpoint, Kind: Histogram, Unit: Seconds, Group: Endpoints, Title: Text{"From commit to success, 99th percentile", "Do commit ao sucesso, percentil 99"}},
		{Metric: "gancho_retrying_events", By: endpoint, Group: Endpoints, Title: Text{"Events that wait for another attempt", "Eventos à espera de nova tentativa"}},
		{Metric: "gancho_replay_backlog_events", By: endpoint, Group: Endpoints, Title: Text{"Resends queued", "Reenvios na fila"}},
		{Metric: "gancho_dead_letters", By: endpoint, Group: Endpoints, Title: Text{"Dead letters in Redis", "Dead letters no Redis"}, Alerts: []Alert{{
			Name: "GanchoDeadLetters", Condition: Condition{}, For: 5 * time.Minute, Severity: Warning, Runbook: "What to watch",
			Title: Text{"Endpoint {endpoint} has dead letters", "Endpoint {endpoint} tem dead letters"},
			Text: Text{"Without a state database they stay in Redis until they are redriven; with one, it does not take them. gancho dead list shows them.",
				"Sem banco de estado elas ficam no Redis até serem reenviadas; com ele, ele não as aceita. gancho dead list mostra quais."},
		}}},
		{Metric: "gancho_overflowed_events", By: endpoint, Group: Endpoints, Title: Text{"Events moved to the state database", "Eventos movidos para o banco de estado"}},
		{Metric: "gancho_overflowed_bytes", By: endpoint, Unit: Bytes, Group: Endpoints, Title: Text{"Size of the events in the state database", "Tamanho dos eventos no banco de estado"}},
		{Metric: "gancho_endpoint_over_quota", By: endpoint, Unit: Flag, Group: Endpoints, Title: Text{"Over its quota", "Acima da cota"}, Alerts: []Alert{{
			Name: "GanchoOverQuota", Condition: Condition{}, For: 10 * time.Minute, Severity: Warning, Runbook: "A backlog over its quota",
			Title: Text{"The backlog of endpoint {endpoint} is over its quota", "A fila do endpoint {endpoint} passa da cota"},
			Text:  Text{"Resends and redrives wait, and events go to the state database. Events are still delivered.", "Reenvios esperam, e eventos vão para o banco de estado. Os eventos continuam a ser entregues."},
		}}},
		{Metric: "gancho_closing_incomplete", By: endpoint, Unit: Flag, Group: Endpoints, Title: Text{"Newest closing is incomplete", "Último fechamento incompleto"}, Alerts: []Alert{{
			Name: "GanchoClosingIncomplete", Condition: Condition{}, Severity: Warning, Runbook: "Is every event accounted for?",
			Title: Text{"The closing of endpoint {endpoint} is incomplete", "O fechamento do endpoint {endpoint} está incompleto"},
			Text:  Text{"The delivery log and the counts of its day do not agree. gancho status names the day.", "O registro de entregas e as contagens do dia não batem. gancho status diz o dia."},
		}}},
		{Metric: "gancho_log_backlog_attempts", By: endpoint, Group: Endpoints, Title: Text{"Attempts not yet in the delivery log", "Tentativas ainda fora do registro de entregas"}},
		{Metric: "gancho_log_lost_attempts_total", By: endpoint, Kind: Counter, Group: Endpoints, Title: Text{"Attempts that the delivery log lacks", "Tentativas que faltam no registro de entregas"}, Alerts: []Alert{{
			Name: "GanchoLogLost", Condition: Condition{Increases: true}, Severity: Warning, Runbook: "The state database",
			Title: Text{"The delivery log of endpoint {endpoint} lacks attempts", "Faltam tentativas no registro de entregas do endpoint {endpoint}"},
			Text:  Text{"The state database did not take them in time. Events and dead letters are not concerned.", "O banco de estado não as aceitou a tempo. Eventos e dead letters não são afetados."},
		}}},
	}
}

func stateList() []Watch {
	const database = "The state database"
	return []Watch{
		{Metric: "gancho_records_total", By: []string{"kind"}, Kind: Counter, Group: State, Title: Text{"Rows written per second", "Linhas gravadas por segundo"}},
		{Metric: "gancho_records_total", Only: `kind="dead_letter"`, Kind: Counter, Group: State, Title: Text{"New dead letters per second", "Novas dead letters por segundo"}, Alerts: []Alert{{
			Name: "GanchoNewDeadLetters", Condition: Condition{Increases: true}, Severity: Warning, Runbook: "What to watch",
			Title: Text{"Events became dead letters", "Eventos viraram dead letters"},
			Text:  Text{"A receiver refused them, or every attempt failed: gancho dead list, then gancho dead redrive.", "Um receptor os recusou, ou todas as tentativas falharam: gancho dead list, depois gancho dead redrive."},
		}}},
		{Metric: "gancho_records_waiting", Sources: true, Group: State, Title: Text{"Attempts and dead letters that wait for it", "Tentativas e dead letters à espera dele"}},
		{Metric: "gancho_records_refused_total", Kind: Counter, Group: State, Title: Text{"Rows that it refused", "Linhas que ele recusou"}, Alerts: []Alert{{
			Name: "GanchoRecordsRefused", Condition: Condition{Increases: true}, Severity: Warning, Runbook: database,
			Title: Text{"The state database refused rows", "O banco de estado recusou linhas"},
			Text:  Text{"They are left out of the delivery log. The log of Gancho says why.", "Elas ficam fora do registro de entregas. O log do Gancho diz por quê."},
		}}},
		{Metric: "gancho_jobs_total", Only: `state="failed"`, By: []string{"kind"}, Kind: Counter, Group: State, Title: Text{"Jobs that failed", "Trabalhos que falharam"}, Alerts: []Alert{{
			Name: "GanchoJobFailed", Condition: Condition{Increases: true}, Severity: Warning, Runbook: "Messages, and what to do",
			Title: Text{"A job failed", "Um trabalho falhou"},
			Text:  Text{"A resend, redrive or backfill has stopped. gancho status names it, and why.", "Um reenvio ou backfill parou. gancho status diz qual e por quê."},
		}}},
		{Metric: "gancho_mails_total", Only: `outcome=~"failed|dropped"`, Kind: Counter, Group: State, Title: Text{"Mails that were not sent", "E-mails não enviados"}, Alerts: []Alert{{
			Name: "GanchoMailsFailed", Condition: Condition{Increases: true}, Severity: Warning, Runbook: "Messages, and what to do",
			Title: Text{"Mails about operational events were not sent", "E-mails sobre eventos operacionais não foram enviados"},
			Text:  Text{"The mail server does not take them. The log says why.", "O servidor de e-mail não os aceita. O log diz por quê."},
		}}},
		{Metric: "gancho_trace_spans_total", Only: `outcome=~"failed|dropped"`, Kind: Counter, Group: State, Title: Text{"Spans of traces that were lost", "Spans de traces perdidos"}},
		{Metric: "gancho_api_login_failures_total", By: []string{"reason"}, Kind: Counter, Group: State, Title: Text{"Requests without a valid token", "Requisições sem token válido"}},
	}
}
