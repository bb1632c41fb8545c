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

// How long a call waits before it is repeated while the service is away or busy.
const callAgainAfter = 500 * time.Millisecond

// errRefused is an answer that says that the attempt is not (any more) this node's.
var errRefused = errors.New("refused")

// attemptID names an attempt, as Nomad's meta does.
type attemptID struct {
	job    string
	number int
}

// agent plays leruli-node: the same calls in the same order, without images and files.
//
// The bucket's name stands for the job's folder: sim-MILLISECONDS-EXITCODE-ANYTHING says how long its
// command runs and how it ends.
type agent struct {
	cluster *Cluster
	node    *Node
	records *records
	client  *http.Client

	mutex sync.Mutex
	// held are the attempts with leave to start that did not end.
	held map[attemptID]*attempt
}

// attempt is one that this node has leave for.
type attempt struct {
	id       attemptID
	record   Record
	duration time.Duration
	limit    time.Duration
	exitCode int
	outcome  string
}

func newAgent(cluster *Cluster, node *Node, records *records) *agent {
	return &agent{
		cluster: cluster,
		node:    node,
		records: records,
		// As leruli-node has them.
		client: &http.Client{
			Timeout: 30 * time.Second,
			Transport: &http.Transport{
				MaxIdleConnsPerHost: 4, IdleConnTimeout: 20 * time.Second, DisableCompression: true,
			},
		},
		held: map[attemptID]*attempt{},
	}
}

// stageIn gets leave to start and takes as long as image and input would; it returns the exit code.
func (a *agent) stageIn(ctx context.Context, id attemptID) int {
	record := Record{Job: id.job, Attempt: id.number, Node: a.node.ID, Arrived: now()}
	key := make([]byte, 16)
	_, _ = rand.Read(key)
	var leave struct {
		Bucket    string  `json:"bucketid"`
		Cores     int     `json:"cores"`
		TimeLimit float64 `json:"timelimit"`
	}
	err := a.call(ctx, "attempt-start", a.about(id, map[string]any{"startkey": hex.EncodeToString(key)}), &leave)
	if err != nil {
		record.Trouble = err.Error()
		a.records.write(&record)
		return 1
	}
	record.Granted = now()
	record.Cores = leave.Cores
	given := &attempt{id: id, record: record, outcome: "ended", limit: seconds(leave.TimeLimit)}
	given.duration, given.exitCode, err = readBucket(leave.Bucket)
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

// command plays the container; it returns the exit code.
func (a *agent) command(ctx context.Context, id attemptID) int {
	given := a.holds(id)
	if given == nil {
		return 1
	}
	given.record.Running = now()
	if !pause(ctx, min(given.duration, given.limit)) {
		given.outcome, given.exitCode = "stopped", 143
	} else if given.duration > given.limit {
		given.outcome, given.exitCode = "time_limit", 143
	}
	given.record.Ended = now()
	return given.exitCode
}

// stageOut asks for leave to upload, takes as long as the upload would, and sends the receipt.
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
		var exitCode any
		if given.outcome == "ended" {
			exitCode = given.exitCode
		}
		wall := max(0, given.record.Ended-given.record.Running)
		err = a.call(ctx, "attempt-end", a.about(id, map[string]any{
			"outcome": given.outcome, "exitcode": exitCode, "message": nil, "wallseconds": wall,
			"cpuseconds": wall, "peakmemorymb": 1, "uploadedbytes": 0, "uploadedfiles": 0,
		}), nil)
	}
	if err != nil {
		given.record.Trouble = err.Error()
	} else {
		given.record.Receipted = now()
	}
	a.drop(id)
	a.records.write(&given.record)
	return 0
}

// report sends node-report as often as the service wants it, until the end.
func (a *agent) report(ctx context.Context) {
	// Nodes did not all start at the same moment.
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
		// One that fails is left out.
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

// call repeats a call until it is answered, as the agent does.
func (a *agent) call(ctx context.Context, path string, body map[string]any, answer any) error {
	for {
		err := a.once(ctx, path, body, answer)
		if err == nil || errors.Is(err, errRefused) {
			return err
		}
		if !pause(ctx, callAgainAfter) {
			return err
		}
	}
}

// once makes a call; the error is errRefused where repeating it would be of no use.
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
	said, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	switch code := response.StatusCode; {
	case code == http.StatusOK && answer == nil:
		return nil
	case code == http.StatusOK:
		return json.Unmarshal(said, answer)
	case code == http.StatusTooManyRequests || code == http.StatusNotFound || code >= 500:
		return fmt.Errorf("%s: HTTP %d", path, code)
	default:
		return fmt.Errorf("%s: HTTP %d: %.300s: %w", path, code, said, errRefused)
	}
}

// readBucket reads how long a job runs, and its exit code, from the name of its bucket.
func readBucket(bucket string) (time.Duration, int, error) {
	parts := strings.SplitN(bucket, "-", 4)
	if len(parts) != 4 || parts[0] != "sim" {
		return 0, 0, fmt.Errorf("the bucket %q is not of the simulation", bucket)
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

// pause waits; false when it was told to end before.
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
