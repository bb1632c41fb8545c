package main

import "os"

// oomScore is this process's own score by which the kernel chooses whom it kills when the container has no
// memory left. Jobs have a higher one. The file is opened before the process is made undumpable, which
// takes the right to open it from a user that is not root.
type oomScore struct{ file *os.File }

func openOOMScore() oomScore {
	file, _ := os.OpenFile("/proc/self/oom_score_adj", os.O_WRONLY, 0)
	return oomScore{file}
}

// set is an optimisation: without it the kernel still kills the largest process first.
func (s oomScore) set(score string) {
	if s.file != nil {
		_, _ = s.file.WriteAt([]byte(score), 0)
	}
}
