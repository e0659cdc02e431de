package demo

import (
	"embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

//go:embed scenes/*.sql
var sceneFiles embed.FS

// Scene is the story of one line of the vendors' lists of events: what a legacy
// application runs to cause its events, and what it runs that is nearly the
// same and causes nothing.
type Scene struct {
	Number int // in EVENTS.md, from 1
	// Events are the names of the webhooks: most scenes have one, a vendor's
	// "creation/change" has two.
	Events        []string
	Vendor, Title string
	Steps         []Step
}

// Step is a part of a scene. Its statements are run one by one on one
// connection; those between begin and commit are one transaction.
type Step struct {
	Kind StepKind
	// Event is the one of the scene's events that a When causes.
	Event string
	// Why says what is special about the step; empty for the first When.
	Why string
	SQL []string
}

// StepKind is what a step is for.
type StepKind string

// The kinds of steps.
const (
	Given  StepKind = "given"  // rows that the scene needs
	When   StepKind = "when"   // causes one of the scene's events
	Silent StepKind = "silent" // causes none of them
)

// Scenes returns all scenes in the order of their numbers. Their rows have ids
// in the thousand of the scene's number, and need the legacy seed and nothing
// of each other.
func Scenes() ([]Scene, error) {
	entries, err := sceneFiles.ReadDir("scenes")
	if err != nil {
		return nil, fmt.Errorf("read scenes: %w", err)
	}
	var all []Scene
	for _, e := range entries {
		text, err := sceneFiles.ReadFile("scenes/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("read scenes: %w", err)
		}
		scenes, err := parseScenes(string(text))
		if err != nil {
			return nil, fmt.Errorf("read scenes: %s: %w", e.Name(), err)
		}
		all = append(all, scenes...)
	}
	return all, nil
}

// parseScenes reads a file. A line "-- # 7 event ...: vendor, title" begins a
// scene, "-- when", "-- given" and "-- silent: why" a step of it; "-- when event"
// names the event where it is not the scene's first. A statement ends with a
// semicolon at the end of a line.
func parseScenes(text string) ([]Scene, error) {
	var scenes []Scene
	var statement strings.Builder
	for n, line := range strings.Split(text, "\n") {
		comment, isComment := strings.CutPrefix(line, "-- ")
		var scene *Scene
		if len(scenes) > 0 {
			scene = &scenes[len(scenes)-1]
		}
		var err error
		switch {
		case strings.TrimSpace(line) == "":
		case isComment && statement.Len() > 0:
			err = fmt.Errorf("the statement before it does not end with a semicolon")
		case strings.HasPrefix(line, "-- # "):
			var s Scene
			s, err = parseHeading(strings.TrimPrefix(line, "-- # "))
			scenes = append(scenes, s)
		case scene == nil:
			err = fmt.Errorf("no scene has begun")
		case isComment:
			var step Step
			step, err = parseStep(comment, scene.Events)
			scene.Steps = append(scene.Steps, step)
		case len(scene.Steps) == 0:
			err = fmt.Errorf("no step has begun")
		default:
			statement.WriteString(line + "\n")
			if strings.HasSuffix(line, ";") {
				step := &scene.Steps[len(scene.Steps)-1]
				step.SQL = append(step.SQL, strings.TrimSuffix(statement.String(), ";\n"))
				statement.Reset()
			}
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	return scenes, nil
}

// parseHeading reads "7 cliente.atualizado: Superlógica, Cliente atualizado".
func parseHeading(text string) (s Scene, err error) {
	head, rest, ok := strings.Cut(text, ": ")
	names := strings.Fields(head)
	if !ok || len(names) < 2 {
		return s, fmt.Errorf("want a number, events, a colon, the vendor and the title")
	}
	s.Events = names[1:]
	s.Vendor, s.Title, _ = strings.Cut(rest, ", ")
	if s.Number, err = strconv.Atoi(names[0]); err != nil {
		return s, fmt.Errorf("read the scene's number: %w", err)
	}
	return s, nil
}

// parseStep reads "when", "when pedido.alterado: only the items" or
// "silent: a touch", in a scene with the given events.
func parseStep(text string, events []string) (Step, error) {
	head, why, _ := strings.Cut(text, ": ")
	kind, event, named := strings.Cut(head, " ")
	s := Step{Kind: StepKind(kind), Event: event, Why: why}
	if !slices.Contains([]StepKind{Given, When, Silent}, s.Kind) {
		return s, fmt.Errorf("%q is no kind of step", kind)
	}
	if s.Kind == When && !named {
		s.Event = events[0]
	}
	if (named || s.Kind == When) && (s.Kind != When || !slices.Contains(events, s.Event)) {
		return s, fmt.Errorf("%q names an event that is not the scene's", text)
	}
	return s, nil
}
