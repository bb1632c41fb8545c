package main

import (
	"os"
	"strconv"
	"strings"
)

// counters are what the container's cgroup has counted since the container began.
type counters struct {
	cpuNanoseconds int64
	oomKills       int64
	peakBytes      int64
}

// readCounters reads them from cgroup version 2, or version 1 where there is no version 2. What cannot be
// read is 0.
func readCounters() counters {
	const v2, v1 = "/sys/fs/cgroup/", "/sys/fs/cgroup/memory/"
	if microseconds, found := field(v2+"cpu.stat", "usage_usec"); found {
		kills, _ := field(v2+"memory.events", "oom_kill")
		return counters{microseconds * 1000, kills, number(v2 + "memory.peak")}
	}
	kills, _ := field(v1+"memory.oom_control", "oom_kill")
	return counters{
		number("/sys/fs/cgroup/cpuacct/cpuacct.usage"), kills, number(v1 + "memory.max_usage_in_bytes"),
	}
}

func number(path string) int64 {
	text, _ := os.ReadFile(path)
	value, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return value
}

// field finds "name value" among the lines of a file.
func field(path, name string) (int64, bool) {
	text, _ := os.ReadFile(path)
	for _, line := range strings.Split(string(text), "\n") {
		if value, found := strings.CutPrefix(line, name+" "); found {
			parsed, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return parsed, err == nil
		}
	}
	return 0, false
}
