package main

import (
	"context"

	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/doctor"
	"gancho/internal/remote"
	"gancho/internal/state"
	"gancho/mapping"
)

// operations are those of control that commands use: of this process, which connects to the databases, or of a bridge that is asked
// over its API. Where the two differ in what a command prints, one of them is wrong.
type operations interface {
	Status(context.Context, control.Actor) (control.StatusView, error)
	SourcesNow(context.Context, control.Actor) (control.SourcesView, error)
	Doctor(context.Context, control.Actor) (doctor.Report, error)
	Prove(context.Context, control.Actor, queue.TallySpan) (control.ProveView, error)
	EventTypes(context.Context, control.Actor) ([]mapping.EventType, error)
	Why(context.Context, control.Actor, control.WhyQuestion) (control.WhyView, error)

	Endpoints(ctx context.Context, a control.Actor, cursor string, limit int) (control.Page[control.EndpointView], error)
	Endpoint(ctx context.Context, a control.Actor, name string) (control.EndpointView, error)
	AddEndpoint(context.Context, control.Actor, control.NewEndpoint) (control.CreatedView, error)
	EditEndpoint(ctx context.Context, a control.Actor, name string, e control.Edit) (control.EndpointView, error)
	Activate(ctx context.Context, a control.Actor, name string) (control.EndpointView, error)
	Pause(ctx context.Context, a control.Actor, name string) (control.EndpointView, error)
	Deactivate(ctx context.Context, a control.Actor, name string) (control.EndpointView, error)
	Rotate(ctx context.Context, a control.Actor, name string, r control.Rotation) (control.CreatedView, error)
	Remove(ctx context.Context, a control.Actor, name string, dropQueue bool) (control.RemovedView, error)
	Test(ctx context.Context, a control.Actor, name string) (webhook.Exchange, error)

	Deliveries(ctx context.Context, a control.Actor, f state.Filter, cursor string, limit int) (control.Page[state.Attempt], error)
	Delivery(ctx context.Context, a control.Actor, id string) (control.DeliveryDetail, error)

	DeadLetters(ctx context.Context, a control.Actor, f state.Filter, cursor string, limit int) (control.Page[state.DeadLetter], error)
	DeadGroups(context.Context, control.Actor, state.Filter) ([]state.DeadGroup, error)
	DeadLetter(ctx context.Context, a control.Actor, id int64) (control.DeadDetail, error)
	CountDead(context.Context, control.Actor, state.Filter) (int64, error)
	DropDead(ctx context.Context, a control.Actor, f state.Filter, all bool) (int64, error)
	CreateRedrive(ctx context.Context, a control.Actor, r state.Job, all bool) ([]state.Job, error)

	Parked(ctx context.Context, a control.Actor, f state.Filter, cursor string, limit int) (control.Page[control.Parked], error)
	ParkedGroups(context.Context, control.Actor, state.Filter) ([]control.ParkedGroup, error)
	ParkedChange(ctx context.Context, a control.Actor, id string) (control.ParkedDetail, error)
	CountParked(context.Context, control.Actor, state.Filter) (int64, error)
	DropParked(ctx context.Context, a control.Actor, f state.Filter, all bool) (int64, error)
	RedriveParked(ctx context.Context, a control.Actor, r state.Job, all bool) ([]state.Job, error)

	CreateResend(context.Context, control.Actor, state.Job) (state.Job, error)
	CreateBackfill(context.Context, control.Actor, state.Job) (control.BackfillView, error)
	Jobs(ctx context.Context, a control.Actor, cursor string, limit int) (control.Page[state.Job], error)
	Job(ctx context.Context, a control.Actor, id int64) (state.Job, error)
	CancelJob(ctx context.Context, a control.Actor, id int64) (state.Job, error)
	PauseJob(ctx context.Context, a control.Actor, id int64) (state.Job, error)
	ResumeJob(ctx context.Context, a control.Actor, id int64) (state.Job, error)

	Forget(context.Context, control.Actor, control.ForgetRequest) (control.Receipt, error)
	Audit(ctx context.Context, a control.Actor, f state.AuditFilter, cursor string, limit int) (control.Page[state.Change], error)
	Tokens(context.Context, control.Actor) ([]state.Token, error)
	CreateToken(context.Context, control.Actor, control.NewToken) (control.CreatedToken, error)
	RevokeToken(ctx context.Context, a control.Actor, name string) error
	CreateLink(context.Context, control.Actor, control.NewLink) (control.CreatedLink, error)
}

var (
	_ operations = (*control.Service)(nil)
	_ operations = (*remote.Client)(nil)
)
