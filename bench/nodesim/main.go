// Command nodesim is many nodes in one process: a real Nomad client each, with the node agent and
// Docker played. bench/README.md says what is real and what is not.
//
// It reads one JSON document from standard input (the type Cluster), starts all nodes, writes the
// line "ready" to standard output once each is registered, and ends at a TERM or at the end of
// standard input. What was done is in records.jsonl of its folder, a JSON line an attempt
// (the type Record).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/version"
)

// Nodes that register at the same time: each costs the server a handshake and a write to its log.
const startingAtOnce = 8

// Cluster is what the simulation says of its nodes.
type Cluster struct {
	// Service is the root of the service's address.
	Service string `json:"service"`
	// Servers are the RPC addresses of Nomad's servers.
	Servers    []string `json:"servers"`
	Region     string   `json:"region"`
	Datacenter string   `json:"datacenter"`
	// CA is the certificate of the authority, PEM.
	CA string `json:"ca"`
	// Folder is where clients keep what they write, and the records.
	Folder string `json:"folder"`
	// LogLevel is that of Nomad's clients; they write to standard error.
	LogLevel string `json:"loglevel"`
	// ReportSeconds pass between two reports of a node.
	ReportSeconds float64 `json:"reportseconds"`
	// ContainerStartSeconds are what Docker takes to make and start a container.
	ContainerStartSeconds float64 `json:"containerstartseconds"`
	// StageInSeconds and StageOutSeconds are what image, input and output take on a node.
	StageInSeconds  float64 `json:"stageinseconds"`
	StageOutSeconds float64 `json:"stageoutseconds"`
	Nodes           []Node  `json:"nodes"`
}

// Node is one node, as node-join let it in.
type Node struct {
	ID          string `json:"id"`
	Token       string `json:"token"`
	Pool        string `json:"pool"`
	IntroToken  string `json:"introtoken"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	Cores       int    `json:"cores"`
	MemoryMB    int    `json:"memorymb"`
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "-version" {
		fmt.Println("nodesim", version.GetVersion().FullVersionNumber(false))
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "nodesim:", err)
		os.Exit(1)
	}
}

func run() error {
	input := bufio.NewReader(os.Stdin)
	var cluster Cluster
	if err := json.NewDecoder(input).Decode(&cluster); err != nil {
		return fmt.Errorf("the description of the cluster cannot be read: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	records, err := newRecords(filepath.Join(cluster.Folder, "records.jsonl"))
	if err != nil {
		return err
	}
	defer records.close()
	ca := filepath.Join(cluster.Folder, "ca.pem")
	if err := os.WriteFile(ca, []byte(cluster.CA), 0o600); err != nil {
		return err
	}
	logger := hclog.New(&hclog.LoggerOptions{
		Name: "nodesim", Level: hclog.LevelFromString(cluster.LogLevel), Output: os.Stderr,
	})
	members, err := startAll(ctx, &cluster, ca, records, logger)
	defer stopAll(members)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	// Whoever started us holds the other end: when it is gone, so are we.
	go func() {
		_, _ = io.Copy(io.Discard, input)
		stop()
	}()
	<-ctx.Done()
	return nil
}

func startAll(
	ctx context.Context, cluster *Cluster, ca string, records *records, logger hclog.Logger,
) ([]*member, error) {
	var (
		mutex   sync.Mutex
		group   sync.WaitGroup
		members []*member
		failed  error
	)
	places := make(chan struct{}, startingAtOnce)
	for position := range cluster.Nodes {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			started, err := startMember(ctx, cluster, &cluster.Nodes[position], ca, records, logger)
			mutex.Lock()
			defer mutex.Unlock()
			if err != nil {
				failed = fmt.Errorf("the node %s: %w", cluster.Nodes[position].ID, err)
				return
			}
			members = append(members, started)
		})
	}
	group.Wait()
	return members, failed
}

// stopAll ends the clients; what is left of one that does not end goes with the process.
func stopAll(members []*member) {
	var group sync.WaitGroup
	for _, each := range members {
		group.Go(each.stop)
	}
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
	}
}
