package main

import (
	"errors"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// The signal at the parent's end is bound to the thread that asked for it; the first one lives as long
// as the process, and main runs on it.
func init() { runtime.LockOSThread() }

// endWithParent has the kernel end this process when Nomad ends, however that came about. The next
// Nomad starts its own, which takes up what runs; nothing of this one would be of use to it.
func endWithParent() error {
	parent := os.Getppid()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	// It may have ended before it was asked to tell.
	if os.Getppid() != parent {
		return errors.New("it ended meanwhile")
	}
	return nil
}
