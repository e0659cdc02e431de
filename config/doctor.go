package config

import (
	"time"

	"gancho/internal/strictyaml"
)

// Doctor is what gancho doctor is told.
type Doctor struct {
	Snooze []Snooze
}

// Snooze puts the findings of an id off until the beginning of a day, UTC.
type Snooze struct {
	ID     string
	Until  time.Time
	Reason string
}

func (d *Doctor) decode(v value) {
	v.Map(strictyaml.Optional("snooze", func(v value) {
		for _, item := range v.List() {
			d.Snooze = append(d.Snooze, decodeSnooze(item))
		}
	}))
}

func decodeSnooze(v value) (s Snooze) {
	v.Map(
		strictyaml.Required("id", func(v value) { s.ID = v.Text() }),
		strictyaml.Required("until", func(v value) {
			text := v.Text()
			at, err := time.Parse(time.DateOnly, text)
			if text != "" && err != nil {
				v.Errorf("write a day, such as 2027-01-31", "%q is not a day", text)
			}
			s.Until = at
		}),
		strictyaml.Required("reason", func(v value) { s.Reason = v.Text() }),
	)
	return s
}
