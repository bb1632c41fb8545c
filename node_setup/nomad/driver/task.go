package main

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
)

const (
	// exitNoContainer is the exit code of a task without a container. The agent decides what it means.
	exitNoContainer = 127

	// As long as the agent waits for Docker before it calls a job lost (DOCKER_RETRY_FOR_S).
	dockerRetryTime = 10 * time.Minute
	dockerPause     = time.Second
)

// task is a task whose container was started or recovered, until stage-out has ended.
type task struct {
	name    string
	started time.Time
	end     question

	// recovering ends when its container need not be recovered any more. life ends when nobody waits
	// for the task.
	recovering       context.Context
	abandonContainer context.CancelFunc
	life             context.Context
	abandon          context.CancelFunc

	// stopped is closed when there is no container any more; then stage-out runs.
	stopped chan struct{}
	// done is closed after stage-out. result and ended are set before.
	done   chan struct{}
	result *drivers.ExitResult
	ended  time.Time
}

func newTask(name string, end question) *task {
	made := &task{
		name: name, started: time.Now(), end: end, stopped: make(chan struct{}), done: make(chan struct{}),
	}
	made.life, made.abandon = context.WithCancel(context.Background())
	made.recovering, made.abandonContainer = context.WithCancel(made.life)
	return made
}

// run waits for the container's end, then for stage-out. The container's result counts, unless
// stage-out failed.
func (t *task) run(out question, container func(context.Context) *drivers.ExitResult) {
	defer t.abandon()
	t.result = container(t.recovering)
	close(t.stopped)
	if said := out.ask(t.life); said.code != 0 && t.result.Successful() {
		t.result = &drivers.ExitResult{ExitCode: said.code, Err: said.asError()}
	}
	t.ended = time.Now()
	close(t.done)
}

// tellEnd tells the agent that Nomad ends the task, until it answers or the task is over. Nomad does not
// wait for it.
func (t *task) tellEnd() {
	go t.end.ask(t.life)
}

func (t *task) hasNoContainer() bool { return isClosed(t.stopped) }

func (t *task) isOver() bool { return isClosed(t.done) }

func isClosed(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}

// recoverContainer has the docker driver recover a container, and repeats that while Docker does
// not answer: a running container must not be ended for that. An error that the container is gone
// is final.
func recoverContainer(ctx context.Context, call func() error) error {
	deadline := time.Now().Add(dockerRetryTime)
	for {
		err := call()
		if err == nil {
			// The agent ends a container that was stopped in between.
			return ctx.Err()
		}
		if isGone(err) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(dockerPause):
		}
	}
}

// isGone tells whether an error, which the docker driver gives as a text, says that the container
// is gone.
func isGone(err error) bool {
	return strings.Contains(strings.ToLower(err.Error()), "no such container")
}
