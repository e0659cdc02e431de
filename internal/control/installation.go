package control

import (
	"context"
	"time"

	"gancho/internal/state"
)

// InstallationView is what a command needs to know of the bridge that it asks, to read and write as one beside it does.
type InstallationView struct {
	Version string `json:"version"`
	// Zone is the source's time zone, such as America/Sao_Paulo.
	Zone string `json:"timezone"`
	// File is the path of gancho.yaml; a tenant sees no path.
	File string `json:"file"`
	// KeepEvents is how long events are kept after their commit, in seconds; 0: they are not.
	KeepEvents int64 `json:"keep_events_seconds"`
}

// defaultFile is the name that a configuration has.
const defaultFile = "gancho.yaml"

// Installation describes the bridge. Needs Viewer.
func (s *Service) Installation(_ context.Context, a Actor) (InstallationView, error) {
	if err := a.may(state.Viewer); err != nil {
		return InstallationView{}, err
	}
	v := InstallationView{Version: s.Version, Zone: time.UTC.String(), File: defaultFile, KeepEvents: int64(s.KeepEvents / time.Second)}
	if s.Zone != nil {
		v.Zone = s.Zone.String()
	}
	if a.Tenant == "" && s.ConfigFile != "" {
		v.File = s.ConfigFile
	}
	return v, nil
}
