// Package monitoring is the one list of what to watch of a bridge, and writes it as others read it: a Grafana dashboard, Prometheus
// rules with promtool's cases for them, and a Zabbix template. The files are packaging/monitoring's; `make monitoring` writes them,
// and a test fails while they differ from the list.
//
// A watch is a metric and what to say of it; its alerts are conditions that PromQL and Zabbix can both express. Nothing in this package
// runs in the bridge.
package monitoring
