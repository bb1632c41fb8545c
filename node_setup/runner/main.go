// Command leruli-runner is the first process of a shared container. It runs the jobs that the node agent
// names, one after the other, and leaves nothing of one job for the next: no process, no file in /tmp,
// /var/tmp and /dev/shm, no System V object.
//
// It connects to the agent's unix socket and obeys only a process outside of the container: the kernel says
// so (SO_PEERCRED names the process id 0). The agent knows this process by its process id in the same way.
// So no job can speak for either of them, whatever it does with the socket's file.
//
// It is deaf to the job. Signals are dropped, Docker's too: the agent tells it when to end a job. It cannot
// be traced, since it is not dumpable.
//
// The lines of both directions are JSON objects; see protocol.go.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
)

const (
	version   = "1.0"
	exitUsage = 64
	// The memory of this process counts for the job's container: 4 MB is enough for it.
	memoryLimit = 4 << 20
	setDumpable = 4 // PR_SET_DUMPABLE
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: leruli-runner SOCKET | -version")
		os.Exit(exitUsage)
	}
	if os.Args[1] == "-version" {
		fmt.Println("leruli-runner", version)
		return
	}
	runtime.GOMAXPROCS(1)
	reserveThreads()
	debug.SetMemoryLimit(memoryLimit)
	// Not signal.Ignore: a job would inherit that.
	signal.Notify(make(chan os.Signal, 1))
	scores := openOOMScore()
	if _, _, err := syscall.Syscall(syscall.SYS_PRCTL, setDumpable, 0, 0); err != 0 {
		fmt.Fprintln(os.Stderr, "leruli-runner cannot protect itself from jobs:", err)
		os.Exit(1)
	}
	newRunner(os.Args[1], scores).serve()
}
