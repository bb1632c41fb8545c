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
	// The exit code of a task that Nomad destroyed before it ended, as of a process that TERM ended.
	exitStopped = 143

	firstDelay = 50 * time.Millisecond
	lastDelay  = 2 * time.Second
)

// retryTimes say how long to ask while no agent listens. A job that has not started is requeued
// soon; a job that ran must get its receipt. An agent that is started again must learn that Nomad ends
// the task, so that question is asked as long as the one for stage-out.
var retryTimes = map[string]time.Duration{"in": time.Minute, "out": 24 * time.Hour, "end": 24 * time.Hour}

// question is one line for the agent's socket, and how long to ask until an agent listens.
type question struct {
	socket    string
	line      string
	retryTime time.Duration
}

// answer is an exit code, 0 for success, and a sentence about it.
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

// newQuestion makes the line `<in|out|end> <job> <attempt> <allocation>` from a task's environment.
func newQuestion(
	direction string, environment map[string]string, allocation string, socket string,
) (question, error) {
	retryTime, known := retryTimes[direction]
	if !known {
		return question{}, fmt.Errorf("the stage is in, out or end, not %q", direction)
	}
	words := []string{
		direction, environment["NOMAD_META_job"], environment["NOMAD_META_attempt"], allocation,
	}
	for _, word := range words {
		if word == "" || strings.ContainsAny(word, " \n") {
			return question{}, fmt.Errorf("the meta of the task names no job and attempt")
		}
	}
	return question{socket, strings.Join(words, " ") + "\n", retryTime}, nil
}

// ending is the question that ends the task whose stage-out is q.
func (q question) ending() question {
	_, rest, _ := strings.Cut(q.line, " ")
	return question{q.socket, "end " + rest, retryTimes["end"]}
}

// ask sends the line until it is answered. A connection that ends without an answer means that the
// agent was restarted. The line can then be sent again: the agent knows what it has done already.
func (q question) ask(ctx context.Context) answer {
	deadline := time.Now().Add(q.retryTime)
	for delay := firstDelay; ; delay = min(lastDelay, 2*delay) {
		given, connected := q.once(ctx)
		if given != nil {
			return *given
		}
		if ctx.Err() != nil {
			return answer{exitStopped, "the task was stopped"}
		}
		if connected {
			// An agent was there. Its restart gets the whole retry time again.
			deadline = time.Now().Add(q.retryTime)
		} else if time.Now().After(deadline) {
			return answer{exitNoAgent, "no node agent is listening"}
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

// once sends the line once. It returns the answer (nil if there is none), and whether an agent
// listened.
func (q question) once(ctx context.Context) (*answer, bool) {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "unix", q.socket)
	if err != nil {
		return nil, false
	}
	// Closed when nobody waits any more. That ends the read below.
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
