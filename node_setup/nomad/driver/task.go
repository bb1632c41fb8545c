package main

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
)

const (
	// exitNoContainer is what a task ends with whose container is gone; the agent decides what that means.
	exitNoContainer = 127

	// As long as the agent waits for Docker before it calls a job lost (DOCKER_PATIENCE).
	dockerPatience = 10 * time.Minute
	dockerAgain    = time.Second
)

// task is one whose container was started or taken up, until the job is brought out.
type task struct {
	name    string
	started time.Time

	// taking ends when nobody waits for its container to be taken up any more, life when nobody waits
	// for the task at all.
	taking          context.Context
	giveUpContainer context.CancelFunc
	life            context.Context
	abandon         context.CancelFunc

	// stopped is closed when there is no container any more; the job is being brought out.
	stopped chan struct{}
	// done is closed when it ended; then result and ended are there.
	done   chan struct{}
	result *drivers.ExitResult
	ended  time.Time
}

func newTask(name string) *task {
	made := &task{
		name: name, started: time.Now(), stopped: make(chan struct{}), done: make(chan struct{}),
	}
	made.life, made.abandon = context.WithCancel(context.Background())
	made.taking, made.giveUpContainer = context.WithCancel(made.life)
	return made
}

// run waits for the container's end, then for the agent; the container's result counts, unless the job
// could not be brought out.
func (t *task) run(out question, container func(context.Context) *drivers.ExitResult) {
	defer t.abandon()
	t.result = container(t.taking)
	close(t.stopped)
	if said := out.ask(t.life); said.code != 0 && t.result.Successful() {
		t.result = &drivers.ExitResult{ExitCode: said.code, Err: said.asError()}
	}
	t.ended = time.Now()
	close(t.done)
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

// takeUp has Docker's driver take up a container, again while Docker does not answer: one that runs must
// not be ended for that. That the container is gone is final.
func takeUp(ctx context.Context, recover func() error) error {
	deadline := time.Now().Add(dockerPatience)
	for {
		err := recover()
		if err == nil {
			// One that was to be stopped meanwhile is the agent's to end.
			return ctx.Err()
		}
		if isGone(err) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(dockerAgain):
		}
	}
}

// isGone tells whether an error of Docker's driver, which is a text, says that there is no such container.
func isGone(err error) bool {
	return strings.Contains(strings.ToLower(err.Error()), "no such container")
}
