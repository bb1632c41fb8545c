package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	exitNoAgent = 75
	// A task that Nomad stopped has the exit code of a process that TERM ended.
	exitStopped = 143

	firstDelay = 50 * time.Millisecond
	lastDelay  = 2 * time.Second
)

// patiences say how long to go on when no agent listens: jobs that have not started are given back soon,
// those that ran must get their receipt.
var patiences = map[string]time.Duration{"in": time.Minute, "out": 24 * time.Hour}

// request is what the agent is asked: a line, and how long it may take until an agent is there.
type request struct {
	line     string
	patience time.Duration
}

// answer is what the stage task ends with, and a sentence about it.
type answer struct {
	code     int
	sentence string
}

// newRequest makes the request `<in|out> <job> <attempt> <allocation>` from a task's environment.
func newRequest(direction string, environment map[string]string, allocation string) (request, error) {
	patience, known := patiences[direction]
	if !known {
		return request{}, fmt.Errorf("a stage is in or out, not %q", direction)
	}
	words := []string{
		direction, environment["NOMAD_META_job"], environment["NOMAD_META_attempt"], allocation,
	}
	for _, word := range words {
		if word == "" || strings.ContainsAny(word, " \n") {
			return request{}, fmt.Errorf("the meta of the task names no job and attempt")
		}
	}
	return request{line: strings.Join(words, " ") + "\n", patience: patience}, nil
}

// ask sends the line until it is answered. A connection that ends without an answer means that the
// agent was restarted: the line is sent again, for the agent knows what it did already.
func (r request) ask(ctx context.Context, socket string) answer {
	deadline := time.Now().Add(r.patience)
	for delay := firstDelay; ; delay = min(lastDelay, 2*delay) {
		given, connected := r.once(ctx, socket)
		if given != nil {
			return *given
		}
		if ctx.Err() != nil {
			return answer{exitStopped, "the stage task was stopped"}
		}
		if connected {
			// An agent was there: its restart gets the whole time again.
			deadline = time.Now().Add(r.patience)
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
func (r request) once(ctx context.Context, socket string) (*answer, bool) {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, false
	}
	// Closed when the task is stopped, which ends the waiting below.
	defer context.AfterFunc(ctx, func() { _ = connection.Close() })()
	defer func() { _ = connection.Close() }()
	if _, err := connection.Write([]byte(r.line)); err != nil {
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
