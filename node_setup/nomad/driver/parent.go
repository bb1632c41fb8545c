package main

import (
	"errors"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// The kernel sends the parent-death signal when the thread that asked for it ends. The first thread
// lives as long as the process, and main runs on it.
func init() { runtime.LockOSThread() }

// endWithParent lets the kernel kill this process when Nomad ends, for whatever reason. The next
// Nomad starts its own driver, which recovers the running tasks. It has no use for this one.
func endWithParent() error {
	parent := os.Getppid()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	// Nomad may have ended before the call.
	if os.Getppid() != parent {
		return errors.New("it ended meanwhile")
	}
	return nil
}
