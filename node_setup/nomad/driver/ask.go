package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	exitNoAgent = 75
	// A task that Nomad destroyed before it was over has the exit code of a process that TERM ended.
	exitStopped = 143

	firstDelay = 50 * time.Millisecond
	lastDelay  = 2 * time.Second
)

// patiences say how long to go on when no agent listens: jobs that have not started are given back soon,
// those that ran must get their receipt.
var patiences = map[string]time.Duration{"in": time.Minute, "out": 24 * time.Hour}

// question is what the agent is asked on its socket: a line, and how long it may take until an agent is
// there.
type question struct {
	socket   string
	line     string
	patience time.Duration
}

// answer is an exit code, 0 if it was done, and a sentence about it.
type answer struct {
	code     int
	sentence string
}

func (a answer) asError() error {
	if a.sentence == "" {
		return fmt.Errorf("the node agent answered %d", a.code)
	}
	return errors.New(a.sentence)
}

// newQuestion makes the line `<in|out> <job> <attempt> <allocation>` from a task's environment.
func newQuestion(
	direction string, environment map[string]string, allocation string, socket string,
) (question, error) {
	patience, known := patiences[direction]
	if !known {
		return question{}, fmt.Errorf("a job is brought in or out, not %q", direction)
	}
	words := []string{
		direction, environment["NOMAD_META_job"], environment["NOMAD_META_attempt"], allocation,
	}
	for _, word := range words {
		if word == "" || strings.ContainsAny(word, " \n") {
			return question{}, fmt.Errorf("the meta of the task names no job and attempt")
		}
	}
	return question{socket, strings.Join(words, " ") + "\n", patience}, nil
}

// ask sends the line until it is answered. A connection that ends without an answer means that the
// agent was restarted: the line is sent again, for the agent knows what it did already.
func (q question) ask(ctx context.Context) answer {
	deadline := time.Now().Add(q.patience)
	for delay := firstDelay; ; delay = min(lastDelay, 2*delay) {
		given, connected := q.once(ctx)
		if given != nil {
			return *given
		}
		if ctx.Err() != nil {
			return answer{exitStopped, "the task was stopped"}
		}
		if connected {
			// An agent was there: its restart gets the whole time again.
			deadline = time.Now().Add(q.patience)
		} else if time.Now().After(deadline) {
			return answer{exitNoAgent, "no node agent is listening"}
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

// once asks one time: the answer, nil without one, and whether an agent was there at all.
func (q question) once(ctx context.Context) (*answer, bool) {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "unix", q.socket)
	if err != nil {
		return nil, false
	}
	// Closed when nobody waits any more, which ends the waiting below.
	defer context.AfterFunc(ctx, func() { _ = connection.Close() })()
	defer func() { _ = connection.Close() }()
	if _, err := connection.Write([]byte(q.line)); err != nil {
		return nil, true
	}
	said, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return nil, true
	}
	number, sentence, _ := strings.Cut(strings.TrimSpace(said), " ")
	code, err := strconv.Atoi(number)
	if err != nil {
		return nil, true
	}
	return &answer{code, sentence}, true
}
