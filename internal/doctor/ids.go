package doctor

import "slices"

// ids are the ids of all findings, those of gancho check among them, as docs/operations.md
// explains them.
var ids = []string{
	"application.others", "application.refused.columns", "application.refused.filter", "application.refused.generated", "application.refused.identity", "application.statements",
	"catalogue.drift", "config.mistake", "config.warning",
	"endpoint.certificate", "endpoint.client_certificate", "endpoint.reachable",
	"expression.delegated",
	"identity.children", "identity.cost", "identity.deleted", "identity.gigabyte", "identity.large", "identity.missing", "identity.none", "identity.nullable",
	"inheritance.children", "inheritance.one_table", "inheritance.own_rules",
	"key.missing", "listener.certificate", "lookup.body", "lookup.refused",
	"privilege.lookup", "privilege.lost", "privilege.parents", "privilege.timers",
	"publication.columns", "publication.denied", "publication.filter", "publication.generated", "publication.missing", "publication.operations", "publication.partition", "publication.partitions",
	"publication.refused.columns", "publication.refused.filter", "publication.refused.generated", "publication.refused.identity",
	"publication.standby", "publication.table", "publication.unread", "publication.unsafe", "publication.unused", "publication.whole",
	"redis.clock", "redis.disk", "redis.eviction", "redis.memory", "redis.persistence", "redis.reachable", "redis.replicas", "redis.role", "redis.version",
	"role.denied_columns", "role.missing", "role.replication", "role.statistics", "role.superuser",
	"rows.unseen.alone", "rows.unseen.child", "rows.unseen.foreign", "rows.unseen.unlogged",
	"rule.mistake", "rules.valid",
	"schedule.cost", "schedule.scan", "schedule.state", "schedule.volatile",
	"secret.shared", "secret.text", "secret.weak",
	"server.clock", "server.encoding", "server.idle_replication_slot_timeout", "server.logical_decoding_work_mem", "server.max_slot_wal_keep_size", "server.pglogical",
	"server.senders", "server.settings", "server.slots", "server.standby", "server.synchronous", "server.version", "server.wal_level", "server.wal_level.command_line", "server.wal_sender_timeout",
	"slot.catalog_xmin", "slot.denied", "slot.failover", "slot.forecast", "slot.foreign", "slot.held", "slot.missing", "slot.reader", "slot.refused", "slot.spill", "slot.unconfirmed", "slot.unusable",
	"source.lookup_dsn", "source.not_ready", "source.pooler", "source.reachable", "source.timezone", "source.unreachable", "source.unread",
	"state.key", "state.reachable", "state.schema",
	"table.missing", "table.unpublishable",
	"tracing.collector",
}

// IDs are the ids of all findings that there are, sorted.
func IDs() []string { return slices.Clone(ids) }
