package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"
)

const (
	// Attempts of one slot whose output is uploaded while the next one runs.
	uploadsBeside = 4
	// A longer job is not short: nothing is prepared while the next one runs.
	short = 3 * time.Second
	// A job that has ended within this time is never told to run.
	toldAfter = time.Second
)

// runSlot runs the command of a slot's first attempt, and further attempts after it until none is granted.
//
// As in leruli-node, the next attempt is prepared while a short one runs, and the output of the one before is
// uploaded meanwhile.
func (a *agent) runSlot(ctx context.Context, first *attempt) {
	var uploads sync.WaitGroup
	defer uploads.Wait()
	beside := make(chan struct{}, uploadsBeside)
	// The container of the first attempt is Nomad's, so nothing is prepared beside it.
	var next *ahead
	for current := first; ; {
		a.command(ctx, current, a.watching(current, next))
		wall := current.record.Ended - current.record.Running
		beside <- struct{}{}
		ended := current
		uploads.Go(func() {
			defer func() { <-beside }()
			a.finish(ended)
		})
		following := next.take()
		if ctx.Err() != nil {
			a.giveBack(following)
			return
		}
		if following == nil {
			following = a.prepare(ctx, first.id)
			if following == nil {
				return
			}
		}
		next = nil
		if wall < short.Seconds() {
			next = &ahead{done: make(chan struct{})}
			go next.prepare(a, ctx, first.id)
		}
		current = following
		pause(ctx, seconds(a.cluster.PreparedStartSeconds))
	}
}

// watching returns what happens at certain moments of a command's run.
func (a *agent) watching(current *attempt, next *ahead) func(ran time.Duration) {
	return func(ran time.Duration) {
		switch {
		case ran >= short:
			a.giveBack(next.take())
		case ran >= toldAfter && current.record.Slot != "":
			a.asking.isRunning(current.id)
		}
	}
}

// ahead is an attempt that is prepared while another one runs. Its methods work on nil, when none is.
type ahead struct {
	done    chan struct{}
	attempt *attempt
}

func (h *ahead) prepare(a *agent, ctx context.Context, first attemptID) {
	defer close(h.done)
	h.attempt = a.prepare(ctx, first)
}

// take returns the attempt once, as soon as it is prepared.
func (h *ahead) take() *attempt {
	if h == nil {
		return nil
	}
	<-h.done
	taken := h.attempt
	h.attempt = nil
	return taken
}

// prepare gets the next attempt of a slot, and takes the time of its input and container; nil if none is granted.
func (a *agent) prepare(ctx context.Context, first attemptID) *attempt {
	key := make([]byte, 16)
	_, _ = rand.Read(key)
	grants := a.asking.next(first, hex.EncodeToString(key))
	if len(grants) == 0 {
		return nil
	}
	grant := grants[0]
	given := &attempt{
		id: grant.id(), outcome: "ended", limit: seconds(grant.TimeLimit), leased: true,
		record: Record{
			Job: grant.Job, Attempt: grant.Number, Node: a.node.ID, Slot: first.text(), Cores: grant.Cores,
			Arrived: now(), Granted: now(),
		},
	}
	var err error
	given.duration, given.exitCode, err = readBucket(grant.Bucket)
	if err != nil {
		given.outcome = "input_broken"
	}
	a.mutex.Lock()
	a.held[given.id] = given
	a.mutex.Unlock()
	pause(ctx, seconds(a.cluster.StageInSeconds+a.cluster.ContainerStartSeconds-a.cluster.PreparedStartSeconds))
	return given
}

// giveBack returns an attempt that did not begin, if there is one.
func (a *agent) giveBack(given *attempt) {
	if given == nil {
		return
	}
	a.asking.giveBack(given.id)
	a.drop(given.id)
}

// finish takes the time of an upload, and sends the receipt with those of other slots.
func (a *agent) finish(given *attempt) {
	var err error
	if !given.leased {
		err = a.call(context.Background(), "attempt-upload", a.about(given.id, nil), nil)
	}
	if err == nil {
		pause(context.Background(), seconds(a.cluster.StageOutSeconds))
		err = a.asking.receipt(given.id, given.receipt())
	}
	a.end(given, err)
}
