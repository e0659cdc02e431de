package doctor

import "slices"

// Managed is where a setting is on a managed service, where nobody is a superuser and
// ALTER SYSTEM is refused.
type Managed struct {
	Service string `json:"service"`
	How     string `json:"how"`
}

// The services.
const (
	rds      = "Amazon RDS"
	cloudSQL = "Cloud SQL"
	azure    = "Azure Flexible Server"
	alloyDB  = "AlloyDB"
)

// managed has what the vendors document; what is not there they do not say:
//
//   - https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/PostgreSQL.Concepts.General.FeatureSupport.LogicalReplication.html
//   - https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.pglogical.slot.synchronization.html
//   - https://cloud.google.com/sql/docs/postgres/replication/configure-logical-replication
//   - https://cloud.google.com/datastream/docs/work-with-postgresql-database-wal-log-files
//   - https://learn.microsoft.com/azure/postgresql/parameters/parameters-replication-sending-servers
//   - https://learn.microsoft.com/azure/postgresql/flexible-server/concepts-logical
//   - https://cloud.google.com/alloydb/docs/reference/alloydb-flags
var managed = []struct {
	ids  []string
	rows []Managed
}{
	{[]string{"server.wal_level", "server.wal_level.command_line"}, []Managed{
		{rds, "rds.logical_replication = 1 in the parameter group, and restart"},
		{cloudSQL, "the flag cloudsql.logical_decoding = on, which restarts the instance"},
		{azure, "the server parameter wal_level = LOGICAL, and restart"},
		{alloyDB, "the flag alloydb.logical_decoding = on, which restarts the instance"},
	}},
	{[]string{"role.replication", "slot.denied"}, []Managed{
		{rds, "GRANT rds_replication TO the role, as the master user"},
		{cloudSQL, "ALTER USER ... WITH REPLICATION, as a cloudsqlsuperuser"},
		{azure, "ALTER ROLE ... WITH REPLICATION, as the administrator"},
		{alloyDB, "ALTER USER ... WITH REPLICATION, as an alloydbsuperuser"},
	}},
	{[]string{"server.slots"}, []Managed{
		{rds, "max_replication_slots in the parameter group, and restart"},
		{cloudSQL, "the flag max_replication_slots, which restarts the instance"},
		{azure, "the server parameter max_replication_slots, and restart; high availability takes 4"},
	}},
	{[]string{"server.senders"}, []Managed{
		{rds, "max_wal_senders in the parameter group, and restart"},
		{cloudSQL, "the flag max_wal_senders, which restarts the instance"},
		{azure, "the server parameter max_wal_senders, and restart"},
	}},
	{[]string{"server.max_slot_wal_keep_size", "slot.forecast"}, []Managed{
		{rds, "max_slot_wal_keep_size in the parameter group"},
		{cloudSQL, "cannot be set: watch the disk, and drop the slot of a bridge that does not run"},
		{azure, "read-only, at -1: watch the disk, and drop the slot of a bridge that does not run"},
		{alloyDB, "cannot be set: watch the disk, and drop the slot of a bridge that does not run"},
	}},
	{[]string{"slot.failover"}, []Managed{
		{rds, "from 17 on: sync_replication_slots = 1 and rds.logical_slot_sync_dbname on the replica, hot_standby_feedback = 1, synchronized_standby_slots on the primary"},
	}},
}

// managedOf are the services that have a way of their own for the finding.
func managedOf(id string) []Managed {
	for _, m := range managed {
		if slices.Contains(m.ids, id) {
			return m.rows
		}
	}
	return nil
}
