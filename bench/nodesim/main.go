// Command nodesim runs many nodes in one process. Each node is a real Nomad client; node agent and
// Docker are simulated. bench/README.md says which parts are real.
//
// It reads one JSON document from standard input (the type Cluster) and starts all nodes. Once each
// is registered, it writes the line "ready" to standard output. It ends at a TERM or at the end of
// standard input. It writes one JSON line per attempt (the type Record) to records.jsonl in its folder.
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

// Number of nodes that register at the same time. Each costs the server a handshake and a write to its log.
const startingAtOnce = 8

// Cluster is the input of nodesim.
type Cluster struct {
	// Service is the root URL of the service.
	Service string `json:"service"`
	// Servers are the RPC addresses of Nomad's servers.
	Servers    []string `json:"servers"`
	Region     string   `json:"region"`
	Datacenter string   `json:"datacenter"`
	// CA is the certificate of the authority as PEM.
	CA string `json:"ca"`
	// Folder holds the files of the clients, and the records.
	Folder string `json:"folder"`
	// LogLevel is the level of Nomad's clients, which log to standard error.
	LogLevel string `json:"loglevel"`
	// ReportSeconds is the interval of a node's reports.
	ReportSeconds float64 `json:"reportseconds"`
	// ContainerStartSeconds is the simulated time in which Docker creates and starts a container.
	ContainerStartSeconds float64 `json:"containerstartseconds"`
	// StageInSeconds (image, input) and StageOutSeconds (output) are simulated times.
	StageInSeconds  float64 `json:"stageinseconds"`
	StageOutSeconds float64 `json:"stageoutseconds"`
	// Slots: the agents know slots. Otherwise they give each allocation back to Nomad, as older agents do.
	Slots bool `json:"slots"`
	// GatherSeconds is how long a node gathers receipts and questions for one call.
	GatherSeconds float64 `json:"gatherseconds"`
	// PreparedStartSeconds is the part of ContainerStartSeconds that a prepared container still takes.
	PreparedStartSeconds float64 `json:"preparedstartseconds"`
	Nodes                []Node  `json:"nodes"`
}

// Node is one node with the data that node-join answered.
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
		return fmt.Errorf("standard input holds no valid description of the cluster: %w", err)
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
	// The starting process holds the other end of the pipe. nodesim must not outlive it.
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

// stopAll ends the clients. A client that does not end within 10 s ends with the process.
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
