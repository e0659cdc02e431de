package monitoring

import (
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v4"
)

const made = "# Made by `make monitoring` from internal/monitoring: change it there.\n"

// Files returns the files of packaging/monitoring by their names. The links to runbooks begin with runbooks, a URL that ends with a
// slash; without one they are paths within this repository.
func Files(runbooks string) (map[string][]byte, error) {
	dashboard, err := json.MarshalIndent(grafanaDashboard(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the dashboard: %w", err)
	}
	files := map[string][]byte{"gancho.dashboard.json": append(dashboard, '\n')}
	for name, content := range map[string]any{
		"gancho.rules.yml": prometheusRules(runbooks), "gancho.cases.yml": promtoolCases(runbooks), "gancho.zabbix.yaml": zabbixTemplateFile(),
	} {
		text, err := yaml.Dump(content, yaml.WithIndent(2), yaml.WithLineWidth(-1))
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		files[name] = append([]byte(made), text...)
	}
	return files, nil
}
