package api

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v4"
)

//go:embed openapi.yaml
var openAPISource []byte

// describe returns openapi.yaml as JSON, with Gancho's version.
func describe(version string) ([]byte, error) {
	var document map[string]any
	if err := yaml.Unmarshal(openAPISource, &document); err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	if info, ok := document["info"].(map[string]any); ok && version != "" {
		info["version"] = version
	}
	return json.Marshal(document)
}

func (c *call) openAPI() (answer, error) {
	body, err := c.document()
	return answer{body: body}, err
}
