// Command leruli-driver is the task driver "leruli" of a node's Nomad. It has the node agent, over
// its unix socket, stage a job in, runs the job's container with Nomad's docker driver, and has the
// agent stage the job out.
//
// Nomad's client starts it once, as a plugin (docs/developers/nomad.md says why). Run by hand it
// asks the agent once, with the environment of a task:
//
//	NOMAD_META_job=JOB NOMAD_META_attempt=N NOMAD_ALLOC_ID=ID leruli-driver in|out|end SOCKET [SECONDS]
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

const usage = `usage: leruli-driver in|out|end SOCKET [SECONDS]   with NOMAD_META_job, NOMAD_META_attempt, NOMAD_ALLOC_ID
       leruli-driver                           by Nomad only, as a plugin
       leruli-driver -version`

func main() {
	switch arguments := os.Args[1:]; {
	case len(arguments) == 0:
		if err := endWithParent(); err != nil {
			fmt.Fprintln(os.Stderr, "leruli-driver cannot be bound to Nomad's life:", err)
			os.Exit(1)
		}
		plugins.ServeCtx(func(ctx context.Context, logger hclog.Logger) any { return newDriver(ctx, logger) })
	case len(arguments) == 1 && arguments[0] == "-version":
		fmt.Println("leruli-driver", version.GetVersion().VersionNumber())
	default:
		os.Exit(byHand(arguments))
	}
}

// byHand asks once and returns the agent's exit code.
func byHand(arguments []string) int {
	if len(arguments) < 2 || len(arguments) > 3 {
		fmt.Fprintln(os.Stderr, usage)
		return exitUsage
	}
	asked, err := newQuestion(arguments[0], map[string]string{
		"NOMAD_META_job":     os.Getenv("NOMAD_META_job"),
		"NOMAD_META_attempt": os.Getenv("NOMAD_META_attempt"),
	}, os.Getenv("NOMAD_ALLOC_ID"), arguments[1])
	if err == nil && len(arguments) == 3 {
		var seconds float64
		seconds, err = strconv.ParseFloat(arguments[2], 64)
		asked.retryTime = time.Duration(seconds * float64(time.Second))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, usage)
		return exitUsage
	}
	answer := asked.ask(context.Background())
	if answer.sentence != "" {
		fmt.Fprintln(os.Stderr, answer.sentence)
	}
	return answer.code
}
