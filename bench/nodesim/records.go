package main

import (
	"bufio"
	"encoding/json"
	"os"
	"sync"
	"time"
)

// Record is what a node did for one attempt; times are seconds since 1970, 0 where it did not.
type Record struct {
	Job     string `json:"job"`
	Attempt int    `json:"attempt"`
	Node    string `json:"node"`
	Cores   int    `json:"cores"`
	// Arrived is when Nomad's client started stage-in.
	Arrived float64 `json:"arrived"`
	// Granted is when leave to start came.
	Granted float64 `json:"granted"`
	// Running and Ended are of the command.
	Running float64 `json:"running"`
	Ended   float64 `json:"ended"`
	// Receipted is when the service had taken the receipt; after it the slot is free on the node.
	Receipted float64 `json:"receipted"`
	// Trouble is what went wrong, in the service's words.
	Trouble string `json:"trouble,omitempty"`
}

func now() float64 {
	return float64(time.Now().UnixMicro()) / 1e6
}

// records is the file of what was done.
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

// write adds a line at once: whoever reads the file while it grows sees whole records.
func (r *records) write(record *Record) {
	line, err := json.Marshal(record)
	if err != nil {
		panic(err) // numbers and texts always can be
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
