package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// scratch are the folders that every job finds empty.
var scratch = []string{"/tmp", "/var/tmp", "/dev/shm"}

// clean removes what a job left in the scratch folders and in the container's System V objects.
func clean() error {
	for _, folder := range scratch {
		if err := empty(folder); err != nil {
			return err
		}
	}
	return removeSystemV()
}

func empty(folder string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s cannot be read", folder)
	}
	for _, entry := range entries {
		if err := remove(filepath.Join(folder, entry.Name())); err != nil {
			return fmt.Errorf("%s cannot be emptied", folder)
		}
	}
	return nil
}

// remove removes a tree, also one whose folders the job made unwritable for its own user.
func remove(path string) error {
	if os.RemoveAll(path) == nil {
		return nil
	}
	_ = filepath.WalkDir(path, func(inner string, entry os.DirEntry, err error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(inner, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}
