package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/nomad/plugins/drivers"
)

// withOwnFolders returns a task whose container finds at /alloc, /local and /secrets empty folders beside
// its /rundir, and not Nomad's. In Nomad's /secrets is the socket of an API that takes any number of
// connections from a job. And what a job writes there counts as its use of disk, and is removed by the
// agent, which can remove it whoever owns it in the container.
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
		// The umask took what users of the image need.
		if err := os.Chmod(folder, 0o777); err != nil {
			return nil, err
		}
	}
	return own, nil
}

// sourceOf finds what a task has mounted at a path of its container.
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
