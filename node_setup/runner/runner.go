package main

import (
	"bufio"
	"encoding/json"
	"net"
	"syscall"
	"time"
)

const (
	firstDelay = 10 * time.Millisecond
	lastDelay  = time.Second
	// An order holds an environment, which the agent makes: it is short.
	longestOrder = 1 << 20
)

var signals = map[string]syscall.Signal{"TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}

// runner has at most one job. Everything happens in the goroutine of serve; the others only read.
type runner struct {
	socket     string
	scores     oomScore
	connection net.Conn
	orders     chan order
	connected  chan net.Conn
	lost       chan net.Conn

	current report
	ended   chan end
}

func newRunner(socket string, scores oomScore) *runner {
	return &runner{
		socket:    socket,
		scores:    scores,
		orders:    make(chan order),
		connected: make(chan net.Conn),
		lost:      make(chan net.Conn),
		current:   report{State: "idle"},
		ended:     make(chan end, 1),
	}
}

// serve obeys for ever: Docker ends the container. Without a connection a running job goes on, and an agent
// that is started again finds it.
func (r *runner) serve() {
	go r.connect()
	for {
		select {
		case r.connection = <-r.connected:
			r.tell("")
		case gone := <-r.lost:
			_ = gone.Close()
			r.connection = nil
			go r.connect()
		case given := <-r.orders:
			r.tell(r.obey(given))
		case done := <-r.ended:
			r.current.State, r.current.End = "ended", &done
			r.tell("")
		}
	}
}

// obey does what the agent ordered and returns why not, or "".
func (r *runner) obey(given order) string {
	switch given.Do {
	case "run":
		return r.run(given)
	case "signal":
		return r.signal(given)
	case "forget":
		if r.current.State == "ended" && r.current.ID == given.ID {
			r.current = report{State: "idle"}
		}
		return ""
	default:
		return "unknown order"
	}
}

// run starts a job. The same job again is the agent's question after a lost connection: nothing happens.
func (r *runner) run(given order) string {
	switch {
	case given.ID == "" || given.ID == r.current.ID:
		return ""
	case r.current.State == "running":
		return "another job runs"
	case r.current.End != nil && r.current.End.Unclean != "":
		return r.current.End.Unclean
	}
	r.current = report{State: "running", ID: given.ID}
	started := start(given.Environment, r.scores)
	go func() { r.ended <- started.wait() }()
	return ""
}

func (r *runner) signal(given order) string {
	number, known := signals[given.Signal]
	if !known {
		return "unknown signal"
	}
	if r.current.State == "running" && r.current.ID == given.ID {
		killAll(number)
	}
	return ""
}

// tell reports to the agent. A line that is lost is said again at the next connection.
func (r *runner) tell(refused string) {
	if r.connection == nil {
		return
	}
	said := r.current
	said.Refused = refused
	line, err := json.Marshal(said)
	if err == nil {
		_, _ = r.connection.Write(append(line, '\n'))
	}
}

// connect gets a connection to the agent, however long there is none, and reads its orders.
func (r *runner) connect() {
	for delay := firstDelay; ; delay = min(lastDelay, 2*delay) {
		connection, err := dial(r.socket)
		if err == nil {
			r.connected <- connection
			r.read(connection)
			r.lost <- connection
			return
		}
		time.Sleep(delay)
	}
}

func (r *runner) read(connection net.Conn) {
	lines := bufio.NewScanner(connection)
	lines.Buffer(make([]byte, 4096), longestOrder)
	for lines.Scan() {
		var given order
		if json.Unmarshal(lines.Bytes(), &given) != nil {
			return
		}
		r.orders <- given
	}
}
