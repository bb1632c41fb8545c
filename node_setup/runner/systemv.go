package main

import (
	"bufio"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
)

const removeID = 0 // IPC_RMID

// systemV are the lists of the kernel and the call that removes one entry of each.
var systemV = []struct {
	list   string
	remove func(id uintptr) syscall.Errno
}{
	{"/proc/sysvipc/shm", func(id uintptr) syscall.Errno {
		_, _, err := syscall.Syscall(syscall.SYS_SHMCTL, id, removeID, 0)
		return err
	}},
	{"/proc/sysvipc/sem", func(id uintptr) syscall.Errno {
		_, _, err := syscall.Syscall6(syscall.SYS_SEMCTL, id, 0, removeID, 0, 0, 0)
		return err
	}},
	{"/proc/sysvipc/msg", func(id uintptr) syscall.Errno {
		_, _, err := syscall.Syscall(syscall.SYS_MSGCTL, id, removeID, 0)
		return err
	}},
}

// removeSystemV removes shared memory, semaphores and message queues: they outlive their processes.
func removeSystemV() error {
	for _, kind := range systemV {
		for _, id := range identifiers(kind.list) {
			if err := kind.remove(id); err != 0 && err != syscall.EINVAL && err != syscall.EIDRM {
				return errors.New("a System V object of the job cannot be removed")
			}
		}
	}
	return nil
}

// identifiers reads the second column of such a list, below its heading.
func identifiers(path string) []uintptr {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	var found []uintptr
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 1 {
			if id, err := strconv.ParseUint(words[1], 10, 31); err == nil {
				found = append(found, uintptr(id))
			}
		}
	}
	return found
}
