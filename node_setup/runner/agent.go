package main

import (
	"errors"
	"net"
	"syscall"
)

var errInside = errors.New("the socket is not the node agent's")

// dial connects to the agent. A process of this container that listens there is refused: only one outside
// of it has the process id 0 here.
func dial(socket string) (net.Conn, error) {
	connection, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	if !isOutside(connection.(*net.UnixConn)) {
		_ = connection.Close()
		return nil, errInside
	}
	return connection, nil
}

func isOutside(connection *net.UnixConn) bool {
	raw, err := connection.SyscallConn()
	if err != nil {
		return false
	}
	outside := false
	err = raw.Control(func(descriptor uintptr) {
		peer, err := syscall.GetsockoptUcred(int(descriptor), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		outside = err == nil && peer.Pid == 0
	})
	return err == nil && outside
}
