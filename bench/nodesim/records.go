package main

import (
	"bufio"
	"encoding/json"
	"os"
	"sync"
	"time"
)

// Record holds the times of one attempt on its node, in s since 1970, 0 for a step that did not happen.
type Record struct {
	Job     string `json:"job"`
	Attempt int    `json:"attempt"`
	Node    string `json:"node"`
	// Slot names the first attempt of the slot, if this is a further one.
	Slot  string `json:"slot,omitempty"`
	Cores int    `json:"cores"`
	// Arrived is when Nomad's client started stage-in, or when a further attempt was granted.
	Arrived float64 `json:"arrived"`
	// Granted is when the start grant came.
	Granted float64 `json:"granted"`
	// Running and Ended are start and end of the command.
	Running float64 `json:"running"`
	Ended   float64 `json:"ended"`
	// Receipted is when the service accepted the receipt. After it the slot is free on the node.
	Receipted float64 `json:"receipted"`
	// Trouble is the error of the attempt, in the words of the service.
	Trouble string `json:"trouble,omitempty"`
}

func now() float64 {
	return float64(time.Now().UnixMicro()) / 1e6
}

// records is the file of all records.
type records struct {
	mutex sync.Mutex
	file  *os.File
	lines *bufio.Writer
}

func newRecords(path string) (*records, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &records{file: file, lines: bufio.NewWriter(file)}, nil
}

// write adds a line in one write, so that a reader of the growing file sees whole records only.
func (r *records) write(record *Record) {
	line, err := json.Marshal(record)
	if err != nil {
		panic(err) // impossible: a Record has only numbers and strings
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	_, _ = r.lines.Write(append(line, '\n'))
	_ = r.lines.Flush()
}

func (r *records) close() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	_ = r.lines.Flush()
	_ = r.file.Close()
}
