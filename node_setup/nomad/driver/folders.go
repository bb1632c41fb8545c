package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/nomad/plugins/drivers"
)

// withOwnFolders returns a task whose container has, at /alloc, /local and /secrets, empty folders
// beside its /rundir instead of Nomad's. Nomad's /secrets contains the socket of an API that
// accepts any number of connections from a job. What a job writes into the own folders counts as
// its disk use, and the agent can remove it, whichever user of the container owns it.
func withOwnFolders(config *drivers.TaskConfig) (*drivers.TaskConfig, error) {
	rundir, err := sourceOf(config, "/rundir")
	if err != nil {
		return nil, err
	}
	own := config.Copy()
	own.AllocDir = filepath.Join(filepath.Dir(rundir), "nomad")
	folders := own.TaskDir()
	for _, folder := range []string{folders.SharedAllocDir, folders.LocalDir, folders.SecretsDir} {
		if err := os.MkdirAll(folder, 0o777); err != nil {
			return nil, err
		}
		// The umask removed permissions that users of the image need.
		if err := os.Chmod(folder, 0o777); err != nil {
			return nil, err
		}
	}
	return own, nil
}

// sourceOf returns the folder that a task mounts at a path of its container.
func sourceOf(config *drivers.TaskConfig, path string) (string, error) {
	var task struct {
		Volumes []string `codec:"volumes"`
	}
	if err := config.DecodeDriverConfig(&task); err != nil {
		return "", err
	}
	for _, volume := range task.Volumes {
		if source, found := strings.CutSuffix(volume, ":"+path); found && filepath.IsAbs(source) {
			return source, nil
		}
	}
	return "", errors.New("the task has nothing mounted at " + path)
}
