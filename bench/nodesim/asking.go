package main

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"
)

// errNotAnswered means that the service gave no answer about a receipt that it was sent.
var errNotAnswered = errors.New("slot-next: the answer leaves the receipt out")

const (
	// How long a receipt waits for a question to go with.
	receiptWaits = 500 * time.Millisecond
	// Time after a grant in which another question is expected soon.
	busy = 3 * time.Second
)

// asking gathers the receipts and questions of a node's slots, and sends them in one call at a time, as leruli-node
// does. What comes during a call goes with the next one.
type asking struct {
	agent *agent
	// wake has an element while something may wait for a call.
	wake chan struct{}

	mutex    sync.Mutex
	gathered *question
	// grantedAt is when the last further attempt was granted.
	grantedAt time.Time
}

func newAsking(agent *agent) *asking {
	made := &asking{agent: agent, wake: make(chan struct{}, 1), gathered: newQuestion()}
	go made.run()
	return made
}

// run sends calls, for as long as the process lives.
func (a *asking) run() {
	for range a.wake {
		if a.onlyReceipts() {
			a.waitForQuestion()
		}
		time.Sleep(seconds(a.agent.cluster.GatherSeconds))
		a.send()
	}
}

// onlyReceipts returns whether receipts wait, without a question, and one is expected soon.
func (a *asking) onlyReceipts() bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return !a.gathered.asks() && time.Since(a.grantedAt) < busy
}

func (a *asking) waitForQuestion() {
	timeout := time.After(receiptWaits)
	for a.onlyReceipts() {
		select {
		case <-a.wake:
		case <-timeout:
			return
		}
	}
}

// named is an attempt as the calls name it.
type named struct {
	Job    string `json:"jobid"`
	Number int    `json:"attempt"`
}

func (n named) id() attemptID { return attemptID{n.Job, n.Number} }

// granted is a further attempt of a slot.
type granted struct {
	named
	Bucket    string  `json:"bucketid"`
	Cores     int     `json:"cores"`
	TimeLimit float64 `json:"timelimit"`
}

// question is the body of one call, with the channels on which its askers wait.
type question struct {
	receipts []map[string]any
	running  []named
	returned []named
	slots    []map[string]any

	receipted map[attemptID]chan error
	granted   map[attemptID]chan []granted
}

func newQuestion() *question {
	return &question{receipted: map[attemptID]chan error{}, granted: map[attemptID]chan []granted{}}
}

// asks returns whether there is more than receipts.
func (q *question) asks() bool {
	return len(q.slots)+len(q.running)+len(q.returned) > 0
}

// next asks for the next attempt of a slot. The same key is answered the same. None: the slot ends.
func (a *asking) next(first attemptID, key string) []granted {
	answer := make(chan []granted, 1)
	a.gather(func(body *question) {
		body.slots = append(body.slots, map[string]any{
			"jobid": first.job, "attempt": first.number, "key": key, "most": 1,
		})
		body.granted[first] = answer
	})
	return <-answer
}

// receipt sends a receipt and waits until the service has taken it.
func (a *asking) receipt(id attemptID, receipt map[string]any) error {
	answer := make(chan error, 1)
	a.gather(func(body *question) {
		receipt["jobid"], receipt["attempt"] = id.job, id.number
		body.receipts = append(body.receipts, receipt)
		body.receipted[id] = answer
	})
	return <-answer
}

// isRunning tells that the command of an attempt runs.
func (a *asking) isRunning(id attemptID) {
	a.gather(func(body *question) { body.running = append(body.running, named{id.job, id.number}) })
}

// giveBack returns an attempt that was granted ahead and did not begin.
func (a *asking) giveBack(id attemptID) {
	a.gather(func(body *question) { body.returned = append(body.returned, named{id.job, id.number}) })
}

// gather adds to the next call.
func (a *asking) gather(add func(*question)) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	add(a.gathered)
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// send makes the call, repeats it until it is answered, and hands out the answers.
func (a *asking) send() {
	a.mutex.Lock()
	body := a.gathered
	a.gathered = newQuestion()
	a.mutex.Unlock()
	if !body.asks() && len(body.receipts) == 0 {
		return
	}
	var answer struct {
		Receipts []struct {
			named
			Stale *string `json:"stale"`
		} `json:"receipts"`
		Slots []struct {
			named
			Next []granted `json:"next"`
		} `json:"slots"`
	}
	err := a.agent.call(context.Background(), "slot-next", body.text(a.agent.node.Token), &answer)
	for _, taken := range answer.Receipts {
		if waiting := body.receipted[taken.id()]; waiting != nil {
			if taken.Stale != nil {
				waiting <- errors.New(*taken.Stale)
			} else {
				waiting <- nil
			}
			delete(body.receipted, taken.id())
		}
	}
	for _, slot := range answer.Slots {
		if waiting := body.granted[slot.id()]; waiting != nil {
			waiting <- slot.Next
			if len(slot.Next) > 0 {
				a.granted()
			}
			delete(body.granted, slot.id())
		}
	}
	if err == nil {
		err = errNotAnswered
	}
	for _, waiting := range body.receipted {
		waiting <- err
	}
	for _, waiting := range body.granted {
		waiting <- nil
	}
}

func (a *asking) granted() {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.grantedAt = time.Now()
}

func (q *question) text(token string) map[string]any {
	return map[string]any{
		"nodetoken": token, "receipts": listed(q.receipts), "running": listed(q.running),
		"returned": listed(q.returned), "slots": listed(q.slots),
	}
}

// listed keeps JSON from writing null for an empty list.
func listed[T any](values []T) any {
	if values == nil {
		return json.RawMessage("[]")
	}
	return values
}
