package main

import (
	"os"
	"path/filepath"

	"github.com/hashicorp/nomad/plugins/drivers"
)

// withOwnFolders returns a task whose container finds at /alloc, /local and /secrets empty folders of the
// job's, below the agent's folder jobs, and not Nomad's. In Nomad's /secrets is the socket of an API that
// takes any number of connections from a job. And what a job writes there counts as its use of disk, and
// is removed by the agent, which can remove it whoever owns it in the container.
func withOwnFolders(config *drivers.TaskConfig, jobs string) (*drivers.TaskConfig, error) {
	job := config.Env["NOMAD_META_job"] + "x" + config.Env["NOMAD_META_attempt"]
	own := config.Copy()
	own.AllocDir = filepath.Join(jobs, job, "nomad")
	folders := own.TaskDir()
	for _, folder := range []string{folders.SharedAllocDir, folders.LocalDir, folders.SecretsDir} {
		if err := os.MkdirAll(folder, 0o777); err != nil {
			return nil, err
		}
		// The umask took what users of the image need.
		if err := os.Chmod(folder, 0o777); err != nil {
			return nil, err
		}
	}
	return own, nil
}
