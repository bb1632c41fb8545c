package main

import (
	"runtime"
	"sync"
)

// The Go runtime keeps a thread that has nothing to do, and never ends it. Up to 8 were in use (measured under load).
const reservedThreads = 16

// reserveThreads makes the threads that the Go runtime may want later. A job that fills its container with
// processes leaves no room for a thread, and the runtime ends a program that gets none.
func reserveThreads() {
	var made, over sync.WaitGroup
	made.Add(reservedThreads)
	over.Add(reservedThreads)
	release := make(chan struct{})
	for i := 0; i < reservedThreads; i++ {
		go func() {
			// A locked goroutine has a thread of its own, also while it waits.
			runtime.LockOSThread()
			made.Done()
			<-release
			runtime.UnlockOSThread()
			over.Done()
		}()
	}
	made.Wait()
	close(release)
	over.Wait()
}
