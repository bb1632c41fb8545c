package main

import (
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	folder = "/rundir"
	// The exit code that a shell has for a command that it cannot run.
	exitNotStarted = 127
	// A process that is not gone this long after KILL hangs in the kernel, on a network file system
	// for instance.
	killTimeout = 10 * time.Second
)

// job is a command that runs, with the counters of the cgroup as they were before.
type job struct {
	pid    int
	began  time.Time
	before counters
	err    error
}

// start begins the job's script with the files and the shell that a container of its own would give it.
func start(environment []string, scores oomScore) job {
	began := job{began: time.Now(), before: readCounters()}
	began.pid, began.err = spawn(environment, scores)
	return began
}

func spawn(environment []string, scores oomScore) (int, error) {
	shell, err := exec.LookPath("bash")
	if err != nil {
		if shell, err = exec.LookPath("sh"); err != nil {
			return 0, err
		}
	}
	files, err := openStreams()
	defer closeAll(files)
	if err != nil {
		return 0, err
	}
	descriptors := make([]uintptr, len(files))
	for i, file := range files {
		descriptors[i] = file.Fd()
	}
	// A child has the score that its parent has at the fork.
	scores.set("500")
	defer scores.set("0")
	return syscall.ForkExec(shell, []string{shell, "run.sh"}, &syscall.ProcAttr{
		Dir:   folder,
		Env:   append(os.Environ(), environment...),
		Files: descriptors,
		// A session of its own: a job that signals its group does not reach this process.
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
}

// openStreams opens the standard input, output and error of a job.
func openStreams() ([]*os.File, error) {
	var files []*os.File
	for _, stream := range []struct {
		path  string
		flags int
	}{
		{os.DevNull, os.O_RDONLY},
		{folder + "/joblog.txt", os.O_WRONLY | os.O_CREATE | os.O_TRUNC},
		{folder + "/joberr.txt", os.O_WRONLY | os.O_CREATE | os.O_TRUNC},
	} {
		// A job may have a pipe in the place of a log, whose opening would block this process.
		file, err := os.OpenFile(stream.path, stream.flags|syscall.O_NONBLOCK, 0o666)
		if err != nil {
			return files, err
		}
		files = append(files, file)
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, file := range files {
		_ = file.Close()
	}
}

// wait waits for the end of the job's shell, ends everything else of it, and removes what it left.
func (j job) wait() end {
	var done end
	if j.err != nil {
		done.ExitCode, done.NotStarted = exitNotStarted, j.err.Error()
	} else {
		done.ExitCode = j.waitForShell(&done)
	}
	var survivors bool
	done.Left, survivors = endAll(&done)
	done.WallSeconds = time.Since(j.began).Seconds()
	after := readCounters()
	done.CPUSeconds = float64(after.cpuNanoseconds-j.before.cpuNanoseconds) / 1e9
	done.OOMKills = after.oomKills - j.before.oomKills
	done.PeakBytes = after.peakBytes
	if survivors {
		done.Unclean = "a process of the job cannot be ended"
		return done
	}
	if err := clean(); err != nil {
		done.Unclean = err.Error()
	}
	return done
}

// waitForShell reaps every process that ends until the job's shell does. As first process of the container
// this one gets the orphans.
func (j job) waitForShell(done *end) int {
	for {
		pid, status := reap(0, done)
		if pid == j.pid {
			return exitCode(status)
		}
		if pid < 0 {
			return exitNotStarted
		}
	}
}

// endAll kills every other process of the container. It returns how many there were, and whether one is
// left.
func endAll(done *end) (int, bool) {
	deadline := time.Now().Add(killTimeout)
	for ended := 0; ; {
		killAll(syscall.SIGKILL)
		pid, _ := reap(syscall.WNOHANG, done)
		switch {
		case pid > 0:
			ended++
		case pid < 0:
			return ended, false
		case time.Now().After(deadline):
			return ended, true
		default:
			time.Sleep(time.Millisecond)
		}
	}
}

// reap waits for a child: its process id, 0 if none has ended yet, -1 if there is none.
func reap(options int, done *end) (int, syscall.WaitStatus) {
	var status syscall.WaitStatus
	var use syscall.Rusage
	for {
		pid, err := syscall.Wait4(-1, &status, options, &use)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return -1, status
		}
		// In KiB, of the process and the children that it waited for.
		done.LargestProcessBytes = max(done.LargestProcessBytes, use.Maxrss*1024)
		return pid, status
	}
}

func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// killAll signals every process of the container but this one.
func killAll(number syscall.Signal) { _ = syscall.Kill(-1, number) }
