package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Pause before a call is repeated while the service is away or busy.
const retryPause = 500 * time.Millisecond

// errRefused means that the attempt does not (or no longer) belong to this node.
var errRefused = errors.New("refused")

// attemptID identifies an attempt, as the meta of its child job does.
type attemptID struct {
	job    string
	number int
}

func (id attemptID) text() string { return fmt.Sprintf("%sx%d", id.job, id.number) }

// agent simulates leruli-node: it makes the same calls in the same order, without images and files.
//
// The bucket's name replaces the job's folder: sim-MILLISECONDS-EXITCODE-ANYTHING holds the run time of the
// command and its exit code.
type agent struct {
	cluster *Cluster
	node    *Node
	records *records
	client  *http.Client
	asking  *asking

	mutex sync.Mutex
	// held are the attempts that have a start grant and have not ended.
	held map[attemptID]*attempt
}

// attempt is an attempt with a start grant for this node.
type attempt struct {
	id       attemptID
	record   Record
	duration time.Duration
	limit    time.Duration
	exitCode int
	outcome  string
	// slot says whether the service may grant further attempts for the same allocation.
	slot bool
	// leased says whether the grant was an upload lease too.
	leased bool
}

// receipt is the attempt's receipt as the service takes it.
func (given *attempt) receipt() map[string]any {
	var exitCode any
	if given.outcome == "ended" {
		exitCode = given.exitCode
	}
	wall := max(0, given.record.Ended-given.record.Running)
	return map[string]any{
		"outcome": given.outcome, "exitcode": exitCode, "message": nil, "wallseconds": wall,
		"cpuseconds": wall, "peakmemorymb": 1, "uploadedbytes": 0, "uploadedfiles": 0,
		"peaknocachemb": 1, "diskmb": 1, "imageseconds": 0.01, "inputseconds": 0.01, "outputseconds": 0.01,
	}
}

func newAgent(cluster *Cluster, node *Node, records *records) *agent {
	made := &agent{
		cluster: cluster,
		node:    node,
		records: records,
		// The same timeouts as in leruli-node.
		client: &http.Client{
			Timeout: 30 * time.Second,
			Transport: &http.Transport{
				MaxIdleConnsPerHost: 4, IdleConnTimeout: 20 * time.Second, DisableCompression: true,
			},
		},
		held: map[attemptID]*attempt{},
	}
	made.asking = newAsking(made)
	return made
}

// stageIn gets the start grant and takes the time of image and input; it returns the exit code.
func (a *agent) stageIn(ctx context.Context, id attemptID) int {
	record := Record{Job: id.job, Attempt: id.number, Node: a.node.ID, Arrived: now()}
	key := make([]byte, 16)
	_, _ = rand.Read(key)
	var grant struct {
		Bucket    string  `json:"bucketid"`
		Cores     int     `json:"cores"`
		TimeLimit float64 `json:"timelimit"`
		GoesOn    bool    `json:"goeson"`
		// Silence is null if the grant is no upload lease.
		Silence *float64 `json:"silenceseconds"`
	}
	err := a.call(ctx, "attempt-start", a.about(id, map[string]any{
		"startkey": hex.EncodeToString(key), "marks": a.cluster.Slots,
	}), &grant)
	if err != nil {
		record.Trouble = err.Error()
		a.records.write(&record)
		return 1
	}
	record.Granted = now()
	record.Cores = grant.Cores
	given := &attempt{id: id, record: record, outcome: "ended", limit: seconds(grant.TimeLimit)}
	given.slot = grant.GoesOn && a.cluster.Slots
	given.leased = grant.Silence != nil
	given.duration, given.exitCode, err = readBucket(grant.Bucket)
	a.mutex.Lock()
	a.held[id] = given
	a.mutex.Unlock()
	if err != nil {
		given.outcome = "input_broken"
		return 1
	}
	if !pause(ctx, seconds(a.cluster.StageInSeconds)) {
		given.outcome = "stopped"
		return 1
	}
	return 0
}

// run takes an attempt whose stage-in is over to its end, and its slot; it returns the exit code of the task.
func (a *agent) run(ctx context.Context, id attemptID) int {
	given := a.holds(id)
	switch {
	case given == nil:
		return 1
	case given.slot:
		// Nomad learns the end of the slot. The receipts tell how the attempts ended.
		a.runSlot(ctx, given)
		return 0
	}
	code := a.command(ctx, given, nil)
	if failed := a.stageOut(context.Background(), id); failed != 0 {
		return failed
	}
	return code
}

// command simulates the container; it returns the exit code. It calls `watch` with the time that the command has
// run, at the moments that matter for a slot.
func (a *agent) command(ctx context.Context, given *attempt, watch func(time.Duration)) int {
	given.record.Running = now()
	whole, ran := min(given.duration, given.limit), time.Duration(0)
	for _, moment := range []time.Duration{toldAfter, short} {
		if watch != nil && whole > moment && pause(ctx, moment-ran) {
			watch(moment)
			ran = moment
		}
	}
	if !pause(ctx, whole-ran) {
		given.outcome, given.exitCode = "stopped", 143
	} else if given.duration > given.limit {
		given.outcome, given.exitCode = "time_limit", 143
	}
	given.record.Ended = now()
	return given.exitCode
}

// stageOut gets the upload lease, takes the time of the upload, and sends the receipt.
func (a *agent) stageOut(ctx context.Context, id attemptID) int {
	given := a.holds(id)
	if given == nil {
		return 0
	}
	err := a.call(ctx, "attempt-upload", a.about(id, nil), nil)
	if err == nil {
		if !pause(ctx, seconds(a.cluster.StageOutSeconds)) {
			return 1
		}
		err = a.call(ctx, "attempt-end", a.about(id, given.receipt()), nil)
	}
	a.end(given, err)
	return 0
}

// end forgets an attempt after its receipt, or after an error that repeating does not help.
func (a *agent) end(given *attempt, err error) {
	if err != nil {
		given.record.Trouble = err.Error()
	} else {
		given.record.Receipted = now()
	}
	a.drop(given.id)
	a.records.write(&given.record)
}

// report sends node-report at the service's interval until the end.
func (a *agent) report(ctx context.Context) {
	// Spread the reports over the interval, as real nodes start at different times.
	first, _ := strconv.ParseUint(a.node.ID[:4], 16, 16)
	if !pause(ctx, seconds(a.cluster.ReportSeconds*float64(first)/0x10000)) {
		return
	}
	for {
		held := []map[string]any{}
		a.mutex.Lock()
		for id := range a.held {
			held = append(held, map[string]any{"jobid": id.job, "attempt": id.number})
		}
		a.mutex.Unlock()
		var reply struct {
			Drop []struct {
				Job    string `json:"jobid"`
				Number int    `json:"attempt"`
			} `json:"drop"`
		}
		// A report that fails is skipped, not repeated.
		if a.once(ctx, "node-report", map[string]any{
			"nodetoken": a.node.Token, "agentversion": "simulated", "nomadversion": "simulated",
			"images": []string{"sim:1"}, "diskfreemb": 1000, "disktotalmb": 1000, "attempts": held,
		}, &reply) == nil {
			for _, dropped := range reply.Drop {
				a.drop(attemptID{dropped.Job, dropped.Number})
			}
		}
		if !pause(ctx, seconds(a.cluster.ReportSeconds)) {
			return
		}
	}
}

func (a *agent) holds(id attemptID) *attempt {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.held[id]
}

func (a *agent) drop(id attemptID) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	delete(a.held, id)
}

func (a *agent) about(id attemptID, more map[string]any) map[string]any {
	body := map[string]any{"nodetoken": a.node.Token, "jobid": id.job, "attempt": id.number}
	for name, value := range more {
		body[name] = value
	}
	return body
}

// call repeats a call until the service answers it, as leruli-node does.
func (a *agent) call(ctx context.Context, path string, body map[string]any, answer any) error {
	for {
		err := a.once(ctx, path, body, answer)
		if err == nil || errors.Is(err, errRefused) {
			return err
		}
		if !pause(ctx, retryPause) {
			return err
		}
	}
}

// once makes a call; the error is errRefused if repeating the call is useless.
func (a *agent) once(ctx context.Context, path string, body map[string]any, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	url := a.cluster.Service + "/v22_1/" + path
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err = io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	switch code := response.StatusCode; {
	case code == http.StatusOK && answer == nil:
		return nil
	case code == http.StatusOK:
		return json.Unmarshal(text, answer)
	case code == http.StatusTooManyRequests || code == http.StatusNotFound || code >= 500:
		return fmt.Errorf("%s: HTTP %d", path, code)
	default:
		return fmt.Errorf("%s: HTTP %d: %.300s: %w", path, code, text, errRefused)
	}
}

// readBucket reads run time and exit code of a job from the name of its bucket.
func readBucket(bucket string) (time.Duration, int, error) {
	parts := strings.SplitN(bucket, "-", 4)
	if len(parts) != 4 || parts[0] != "sim" {
		return 0, 0, fmt.Errorf("the bucket %q is not from the simulation", bucket)
	}
	milliseconds, err := strconv.Atoi(parts[1])
	if err != nil {
		return 0, 0, err
	}
	exitCode, err := strconv.Atoi(parts[2])
	if err != nil {
		return 0, 0, err
	}
	return time.Duration(milliseconds) * time.Millisecond, exitCode, nil
}

func seconds(value float64) time.Duration {
	return time.Duration(value * float64(time.Second))
}

// pause waits for a duration; it returns false if the context ended before.
func pause(ctx context.Context, duration time.Duration) bool {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
