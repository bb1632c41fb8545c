package main

// order is a line of the agent.
type order struct {
	// "run", "signal" or "forget".
	Do string `json:"do"`
	// The attempt that it is about.
	ID string `json:"id"`
	// run: added to the container's own environment.
	Environment []string `json:"environment"`
	// signal: TERM or KILL, to every process of the job.
	Signal string `json:"signal"`
}

// report is a line to the agent: how the current job is. It is sent when that changes, and once at the
// beginning of each connection.
type report struct {
	// "idle", "running" or "ended". An ended job is reported until the agent says "forget" or "run".
	State string `json:"state"`
	ID    string `json:"id,omitempty"`
	End   *end   `json:"end,omitempty"`
	// Why an order was not obeyed.
	Refused string `json:"refused,omitempty"`
}

// end is how a job ended.
type end struct {
	// As a shell says it: 128 and the signal's number where a signal ended the job's shell.
	ExitCode int `json:"exitcode"`
	// Why the job never began; the exit code is 127 then.
	NotStarted  string  `json:"notstarted,omitempty"`
	WallSeconds float64 `json:"wallseconds"`
	// By the container's cgroup, from the start of the job to its end.
	CPUSeconds float64 `json:"cpuseconds"`
	OOMKills   int64   `json:"oomkills"`
	// The highest use of memory that the cgroup noted, since the container began or the agent reset it.
	PeakBytes int64 `json:"peakbytes"`
	// The largest single process of the job.
	LargestProcessBytes int64 `json:"largestprocessbytes"`
	// Processes of the job that still ran when its shell had ended, and were killed.
	Left int `json:"left"`
	// Why the container must not run another job: something of this one could not be removed.
	Unclean string `json:"unclean,omitempty"`
}
