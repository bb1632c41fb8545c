// Command leruli-stage does what the stage tasks of a job are there for: it asks the node agent, over
// its unix socket, to bring a job in or out, and waits for the answer.
//
// Nomad's client starts it once, as the task driver leruli_stage (docs/nomad.md says why): a stage task
// is then a connection, not a process. Run by hand it asks once, with the environment of a task:
//
//	NOMAD_META_job=JOB NOMAD_META_attempt=N NOMAD_ALLOC_ID=ID leruli-stage in|out SOCKET [SECONDS]
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins"
	"github.com/hashicorp/nomad/version"
)

const exitUsage = 64

const usage = `usage: leruli-stage in|out SOCKET [SECONDS]   with NOMAD_META_job, NOMAD_META_attempt, NOMAD_ALLOC_ID
       leruli-stage                           by Nomad only, as a plugin
       leruli-stage -version`

func main() {
	switch arguments := os.Args[1:]; {
	case len(arguments) == 0:
		if err := endWithParent(); err != nil {
			fmt.Fprintln(os.Stderr, "leruli-stage cannot be bound to Nomad's life:", err)
			os.Exit(1)
		}
		plugins.Serve(func(logger hclog.Logger) any { return newDriver(logger) })
	case len(arguments) == 1 && arguments[0] == "-version":
		fmt.Println("leruli-stage", version.GetVersion().VersionNumber())
	default:
		os.Exit(byHand(arguments))
	}
}

// byHand asks once and returns what a stage task would exit with.
func byHand(arguments []string) int {
	asked, err := newRequest(arguments[0], map[string]string{
		"NOMAD_META_job":     os.Getenv("NOMAD_META_job"),
		"NOMAD_META_attempt": os.Getenv("NOMAD_META_attempt"),
	}, os.Getenv("NOMAD_ALLOC_ID"))
	if err == nil && len(arguments) == 3 {
		var seconds float64
		seconds, err = strconv.ParseFloat(arguments[2], 64)
		asked.patience = time.Duration(seconds * float64(time.Second))
	}
	if err != nil || len(arguments) < 2 || len(arguments) > 3 {
		fmt.Fprintln(os.Stderr, usage)
		return exitUsage
	}
	answer := asked.ask(context.Background(), arguments[1])
	if answer.sentence != "" {
		fmt.Fprintln(os.Stderr, answer.sentence)
	}
	return answer.code
}
