package monitoring

import "time"

// jobs are the scrape jobs that count as Gancho's.
const jobs = `job=~".*gancho.*"`

// List returns everything to watch.
func List() []Watch {
	var all []Watch
	all = append(all, sourceList()...)
	all = append(all, ruleList()...)
	all = append(all, queueList()...)
	all = append(all, endpointList()...)
	return append(all, stateList()...)
}

func sourceList() []Watch {
	const held = "The WAL that the slot holds"
	return []Watch{
		{Metric: scraped, Only: jobs, Unit: Flag, Group: Source, Title: Text{"The bridge answers", "A ponte responde"}, Alerts: []Alert{{
			Name: "GanchoDown", Condition: Condition{Absent: true}, For: 2 * time.Minute, Severity: Critical, Runbook: "Stopping, starting, several processes",
			Title: Text{"Gancho gives no metrics", "O Gancho não responde às métricas"},
			Text: Text{"The process is stopped or cannot be reached. While nobody reads the slot, the source keeps its WAL on disk.",
				"O processo está parado ou inacessível. Enquanto ninguém lê o slot, a origem guarda o WAL em disco."},
		}}},
		{Metric: "gancho_slot_wal_held_bytes", Sources: true, Each: true, Unit: Bytes, Group: Source, Title: Text{"WAL that the source keeps for the slot", "WAL que a origem guarda para o slot"}, Alerts: []Alert{
			{
				Name: "GanchoSlotWALBudget", Condition: Condition{Above: 0.5, Share: "gancho_slot_wal_budget_bytes"}, For: 5 * time.Minute, Severity: Critical, Runbook: held,
				Title: Text{"The slot holds more than half of source.wal_budget", "O slot guarda mais da metade de source.wal_budget"},
				Text:  Text{"The source's disk fills. See who holds the slot back: gancho doctor.", "O disco da origem está enchendo. Veja o que segura o slot: gancho doctor."},
			},
			{
				Name: "GanchoSlotWALHeld", Condition: Condition{Above: 10 << 30, Without: "gancho_slot_wal_budget_bytes"}, For: 5 * time.Minute, Severity: Critical, Runbook: held,
				Title: Text{"The slot holds more than 10 GiB of WAL", "O slot guarda mais de 10 GiB de WAL"},
				Text: Text{"The source's disk fills, and source.wal_budget does not say how much it can spare. Set it, or change the number to half of what the disk can spare.",
					"O disco da origem está enchendo, e source.wal_budget não diz quanto há de sobra. Configure-o, ou troque o número pela metade do que o disco pode ceder."},
			},
		}},
		{Metric: "gancho_slot_wal_budget_bytes", Sources: true, Unit: Bytes, Group: Source, Title: Text{"WAL that the source may keep (source.wal_budget)", "WAL que a origem pode guardar (source.wal_budget)"}},
		{Metric: "gancho_slot_lag_bytes", Sources: true, Each: true, Unit: Bytes, Group: Source, Title: Text{"WAL not yet confirmed", "WAL ainda não confirmado"}},
		{Metric: "gancho_slot_lag_seconds", Sources: true, Each: true, Unit: Seconds, Group: Source, Title: Text{"Age of the oldest unconfirmed transaction", "Idade da transação mais antiga sem confirmação"}, Alerts: []Alert{{
			Name: "GanchoCaptureLate", Condition: Condition{Above: 300}, For: 5 * time.Minute, Severity: Warning, Runbook: held,
			Title: Text{"Capture is more than five minutes late", "A captura está mais de cinco minutos atrasada"},
			Text:  Text{"Nothing is captured, or not fast enough. gancho status says what it waits for.", "Nada é capturado, ou não rápido o bastante. gancho status diz o que se espera."},
		}}},
		{Metric: "gancho_capture_refused", Sources: true, Unit: Flag, Group: Source, Title: Text{"Capture is refused", "Captura recusada"}, Alerts: []Alert{{
			Name: "GanchoCaptureRefused", Condition: Condition{}, Severity: Critical, Runbook: "When capture is refused",
			Title: Text{"Capture is refused until somebody decides", "A captura está recusada até alguém decidir"},
			Text: Text{"The source or the slot is not the one that was read before: changes may be missing. gancho recover --dry-run shows which.",
				"A origem ou o slot não é o que se lia antes: podem faltar alterações. gancho recover --dry-run mostra quais."},
		}}},
		{Metric: "gancho_sources", Only: `state="refused"`, Group: Source, Title: Text{"Databases left out, of several", "Bancos deixados de fora, de vários"}, Alerts: []Alert{{
			Name: "GanchoSourcesLeftOut", Condition: Condition{}, For: 10 * time.Minute, Severity: Critical, Runbook: held,
			Title: Text{"Databases are not read", "Há bancos que não são lidos"},
			Text: Text{"They do not fit the rules, or cannot be reached, and their slots hold WAL. gancho status and GET /api/v1/sources say which, and why.",
				"Eles não servem para as regras, ou não são alcançados, e os slots deles guardam WAL. gancho status e GET /api/v1/sources dizem quais, e por quê."},
		}}},
		{Metric: "gancho_sources", Only: `state="streaming"`, Group: Source, Title: Text{"Databases streamed now, of several", "Bancos lidos agora, de vários"}},
		{Metric: "gancho_source_refused", By: []string{"source"}, Unit: Flag, Group: Source, Title: Text{"A database, of several, is not read", "Um banco, de vários, não é lido"}},
		{Metric: "gancho_changes_total", By: []string{"table", "op"}, Kind: Counter, Group: Source, Title: Text{"Changes read per second", "Alterações lidas por segundo"}},
	}
}

func ruleList() []Watch {
	const lost = "Tables that leave the stream"
	return []Watch{
		{Metric: "gancho_refused_tables", Sources: true, Group: Rules, Title: Text{"Tables whose UPDATE or DELETE fails", "Tabelas cujo UPDATE ou DELETE falha"}, Alerts: []Alert{{
			Name: "GanchoApplicationRefused", Condition: Condition{}, Severity: Critical, Runbook: "Statements that a publication makes fail",
			Title: Text{"A publication makes the application's statements fail", "Uma publicação faz comandos da aplicação falharem"},
			Text: Text{"UPDATE or DELETE of a published table fails now. The log and gancho check name the table and the remedy.",
				"UPDATE ou DELETE de uma tabela publicada falha agora. O log e gancho check dizem a tabela e o remédio."},
		}}},
		{Metric: "gancho_tables_missing", Sources: true, Group: Rules, Title: Text{"Tables that the stream lacks", "Tabelas que faltam no fluxo"}, Alerts: []Alert{{
			Name: "GanchoTablesMissing", Condition: Condition{}, Severity: Critical, Runbook: lost,
			Title: Text{"The stream lacks a table of the rules", "Falta no fluxo uma tabela das regras"},
			Text:  Text{"Its changes make no events. gancho status names it.", "As alterações dela não geram eventos. gancho status diz qual é."},
		}}},
		{Metric: "gancho_table_gaps_total", By: []string{"table"}, Kind: Counter, Group: Rules, Title: Text{"Tables that left the stream", "Tabelas que saíram do fluxo"}, Alerts: []Alert{{
			Name: "GanchoTableGap", Condition: Condition{Increases: true}, Severity: Critical, Runbook: lost,
			Title: Text{"A table left the stream", "Uma tabela saiu do fluxo"},
			Text:  Text{"Changes of it are missing. The log has the positions and what to run.", "Faltam alterações dela. O log tem as posições e o que executar."},
		}}},
		{Metric: "gancho_unseen_tables", Sources: true, Group: Rules, Title: Text{"Partitions and children out of the stream", "Partições e filhas fora do fluxo"}, Alerts: []Alert{{
			Name: "GanchoUnseenTables", Condition: Condition{}, For: 10 * time.Minute, Severity: Warning, Runbook: "Publications of other tools, and other tools",
			Title: Text{"Rows of partitions or children make no events", "Linhas de partições ou filhas não geram eventos"},
			Text:  Text{"The publication lacks a partition or child of a table of the rules. gancho check prints the statement.", "A publicação não tem uma partição ou filha de uma tabela das regras. gancho check mostra o comando."},
		}}},
		{Metric: "gancho_events_total", By: []string{"event"}, Kind: Counter, Group: Rules, Title: Text{"Events made per second", "Eventos gerados por segundo"}},
		{Metric: "gancho_parked_total", By: []string{"event"}, Kind: Counter, Group: Rules, Title: Text{"Changes parked per second", "Alterações estacionadas por segundo"}, Alerts: []Alert{{
			Name: "GanchoParked", Condition: Condition{Increases: true}, Severity: Warning, Runbook: "What to watch",
			Title: Text{"A rule could not be applied to changes", "Uma regra não pôde ser aplicada a alterações"},
			Text:  Text{"They are parked: gancho parked list, then gancho parked redrive.", "Elas estão estacionadas: gancho parked list, depois gancho parked redrive."},
		}}},
		{Metric: "gancho_timers_pending", By: []string{"event"}, Group: Rules, Title: Text{"Timers that wait", "Timers à espera"}},
		{Metric: "gancho_timers_total", Only: `outcome="failed"`, By: []string{"event"}, Kind: Counter, Group: Rules, Title: Text{"Timers that failed", "Timers que falharam"}, Alerts: []Alert{{
			Name: "GanchoTimerFailed", Condition: Condition{Increases: true}, Severity: Warning, Runbook: "Messages, and what to do",
			Title: Text{"The event of a timer could not be computed", "O evento de um timer não pôde ser calculado"},
			Text:  Text{"A rule with after did not send its event. The log says why.", "Uma regra com after não enviou o evento. O log diz por quê."},
		}}},
		{Metric: "gancho_schedule_runs_total", Only: `outcome=~"failed|skipped"`, By: []string{"event"}, Kind: Counter, Group: Rules, Title: Text{"Scheduled runs that failed or were skipped", "Execuções agendadas que falharam ou foram puladas"}, Alerts: []Alert{{
			Name: "GanchoScheduleFailed", Condition: Condition{Increases: true}, Severity: Warning, Runbook: "Messages, and what to do",
			Title: Text{"A scheduled run failed or was skipped", "Uma execução agendada falhou ou foi pulada"},
			Text:  Text{"A rule with schedule did not run at its time. gancho status and the log say why.", "Uma regra com schedule não rodou na hora. gancho status e o log dizem por quê."},
		}}},
	}
}

func queueList() []Watch {
	return []Watch{
		{Metric: "gancho_confirmations_stopped", Sources: true, Unit: Flag, Group: Queue, Title: Text{"Confirmations are stopped", "Confirmações paradas"}, Alerts: []Alert{{
			Name: "GanchoConfirmationsStopped", Condition: Condition{}, For: 10 * time.Minute, Severity: Critical, Runbook: "Redis",
			Title: Text{"Positions are not confirmed to the source", "As posições não são confirmadas à origem"},
			Text:  Text{"Redis may lose what it was given, and the source holds its WAL meanwhile. /readyz says what to change.", "O Redis pode perder o que recebeu, e a origem guarda o WAL enquanto isso. /readyz diz o que mudar."},
		}}},
		{Metric: "gancho_capture_paused", Sources: true, Unit: Flag, Group: Queue, Title: Text{"Capture waits for Redis's memory", "Captura à espera de memória do Redis"}, Alerts: []Alert{{
			Name: "GanchoCapturePaused", Condition: Condition{}, For: 10 * time.Minute, Severity: Critical, Runbook: "Redis",
			Title: Text{"Capture waits because Redis is nearly full", "A captura espera porque o Redis está quase cheio"},
			Text:  Text{"The source holds its WAL meanwhile. See which endpoint has the backlog: gancho status.", "A origem guarda o WAL enquanto isso. Veja de qual endpoint é a fila: gancho status."},
		}}},
		{Metric: "gancho_append_errors_total", Sources: true, Kind: Counter, Group: Queue, Title: Text{"Appends to Redis that failed", "Gravações no Redis que falharam"}},
		{Metric: "gancho_rewinds_total", Sources: true, Kind: Counter, Group: Queue, Title: Text{"Rewinds after Redis lost something", "Releituras depois de perdas do Redis"}, Alerts: []Alert{{
			Name: "GanchoRewind", Condition: Condition{Increases: true}, Severity: Warning, Runbook: "Redis",
			Title: Text{"Redis restarted or lost something", "O Redis reiniciou ou perdeu algo"},
			Text:  Text{"Capture went back to the confirmed position: no event is missing, receivers may see duplicates.", "A captura voltou à posição confirmada: não falta evento, pode haver duplicatas."},
		}}},
	}
}
