package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/drivers/fsisolation"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"
	pstructs "github.com/hashicorp/nomad/plugins/shared/structs"
	"github.com/hashicorp/nomad/version"
)

const (
	driverName    = "leruli_stage"
	handleVersion = 1
)

// driver is the task driver. It keeps nothing that a new one could not make again from the handles that
// Nomad keeps: a task that is taken up asks the agent once more.
type driver struct {
	drivers.DriverSignalTaskNotSupported
	drivers.DriverExecTaskNotSupported
	logger hclog.Logger

	mutex  sync.Mutex
	socket string
	tasks  map[string]*task
}

// task is one that was started or taken up.
type task struct {
	name    string
	started time.Time
	stop    context.CancelFunc
	// done is closed when it ended; then result and ended are there.
	done   chan struct{}
	result *drivers.ExitResult
	ended  time.Time
}

func newDriver(logger hclog.Logger) *driver {
	return &driver{logger: logger.Named(driverName), tasks: map[string]*task{}}
}

// PluginInfo tells what this is.
func (d *driver) PluginInfo() (*base.PluginInfoResponse, error) {
	return &base.PluginInfoResponse{
		Type:              base.PluginTypeDriver,
		PluginApiVersions: []string{drivers.ApiVersion010},
		PluginVersion:     version.GetVersion().VersionNumber(),
		Name:              driverName,
	}, nil
}

// ConfigSchema has the agent's socket, which the agent writes into the client's configuration.
func (d *driver) ConfigSchema() (*hclspec.Spec, error) {
	return hclspec.NewObject(map[string]*hclspec.Spec{
		"socket": hclspec.NewAttr("socket", "string", true),
	}), nil
}

// SetConfig takes that configuration.
func (d *driver) SetConfig(given *base.Config) error {
	var config struct {
		Socket string `codec:"socket"`
	}
	if len(given.PluginConfig) > 0 {
		if err := base.MsgPackDecode(given.PluginConfig, &config); err != nil {
			return err
		}
	}
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.socket = config.Socket
	return nil
}

// TaskConfigSchema has all that a job can say: which of the two stages it is.
func (d *driver) TaskConfigSchema() (*hclspec.Spec, error) {
	return hclspec.NewObject(map[string]*hclspec.Spec{
		"stage": hclspec.NewAttr("stage", "string", true),
	}), nil
}

// Capabilities are none: there is no process, so nothing to isolate, to signal or to log.
func (d *driver) Capabilities() (*drivers.Capabilities, error) {
	return &drivers.Capabilities{
		FSIsolation:          fsisolation.None,
		MountConfigs:         drivers.MountConfigSupportNone,
		DisableLogCollection: true,
	}, nil
}

// Fingerprint says once that the driver is well. Whether an agent listens is no matter of it: tasks wait.
func (d *driver) Fingerprint(context.Context) (<-chan *drivers.Fingerprint, error) {
	found := make(chan *drivers.Fingerprint, 1)
	found <- &drivers.Fingerprint{
		Attributes:        map[string]*pstructs.Attribute{"driver." + driverName: pstructs.NewBoolAttribute(true)},
		Health:            drivers.HealthStateHealthy,
		HealthDescription: drivers.DriverHealthy,
	}
	return found, nil
}

// StartTask begins to ask the agent.
func (d *driver) StartTask(config *drivers.TaskConfig) (*drivers.TaskHandle, *drivers.DriverNetwork, error) {
	if err := d.begin(config); err != nil {
		return nil, nil, err
	}
	handle := drivers.NewTaskHandle(handleVersion)
	handle.Config = config
	handle.State = drivers.TaskStateRunning
	return handle, nil, nil
}

// RecoverTask takes up a task of an earlier Nomad, or of an earlier process of this driver.
func (d *driver) RecoverTask(handle *drivers.TaskHandle) error {
	if handle == nil || handle.Config == nil {
		return errors.New("the handle has no configuration of a task")
	}
	if _, err := d.find(handle.Config.ID); err == nil {
		return nil
	}
	return d.begin(handle.Config)
}

func (d *driver) begin(config *drivers.TaskConfig) error {
	var said struct {
		Stage string `codec:"stage"`
	}
	if err := config.DecodeDriverConfig(&said); err != nil {
		return fmt.Errorf("the task's configuration cannot be read: %w", err)
	}
	asked, err := newRequest(said.Stage, config.Env, config.AllocID)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	begun := &task{name: config.Name, started: time.Now(), stop: stop, done: make(chan struct{})}
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if _, known := d.tasks[config.ID]; known {
		stop()
		return fmt.Errorf("the task %s was started before", config.ID)
	}
	d.tasks[config.ID] = begun
	socket := d.socket
	go func() {
		defer stop()
		given := asked.ask(ctx, socket)
		begun.result = &drivers.ExitResult{ExitCode: given.code}
		if given.code != 0 {
			// Nomad shows it with the task's end, for whoever looks there.
			begun.result.Err = errors.New(given.sentence)
		}
		begun.ended = time.Now()
		close(begun.done)
	}()
	return nil
}

// WaitTask tells how a task ended.
func (d *driver) WaitTask(ctx context.Context, taskID string) (<-chan *drivers.ExitResult, error) {
	found, err := d.find(taskID)
	if err != nil {
		return nil, err
	}
	result := make(chan *drivers.ExitResult, 1)
	go func() {
		defer close(result)
		select {
		case <-ctx.Done():
		case <-found.done:
			result <- found.result
		}
	}()
	return result, nil
}

// StopTask ends a task at once: what the agent does for it needs no time from here to end well.
func (d *driver) StopTask(taskID string, _ time.Duration, _ string) error {
	found, err := d.find(taskID)
	if err != nil {
		return err
	}
	found.stop()
	return nil
}

// DestroyTask forgets a task.
func (d *driver) DestroyTask(taskID string, force bool) error {
	found, err := d.find(taskID)
	if err != nil {
		return err
	}
	if !found.isOver() && !force {
		return fmt.Errorf("the task %s still runs", taskID)
	}
	found.stop()
	d.mutex.Lock()
	defer d.mutex.Unlock()
	delete(d.tasks, taskID)
	return nil
}

// InspectTask tells how a task is.
func (d *driver) InspectTask(taskID string) (*drivers.TaskStatus, error) {
	found, err := d.find(taskID)
	if err != nil {
		return nil, err
	}
	status := &drivers.TaskStatus{
		ID: taskID, Name: found.name, State: drivers.TaskStateRunning, StartedAt: found.started,
	}
	if found.isOver() {
		status.State = drivers.TaskStateExited
		status.CompletedAt = found.ended
		status.ExitResult = found.result
	}
	return status, nil
}

// TaskStats has nothing to tell: nothing runs.
func (d *driver) TaskStats(
	ctx context.Context, _ string, _ time.Duration,
) (<-chan *drivers.TaskResourceUsage, error) {
	return nothingUntil[*drivers.TaskResourceUsage](ctx), nil
}

// TaskEvents has none.
func (d *driver) TaskEvents(ctx context.Context) (<-chan *drivers.TaskEvent, error) {
	return nothingUntil[*drivers.TaskEvent](ctx), nil
}

func (d *driver) find(taskID string) (*task, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	found, known := d.tasks[taskID]
	if !known {
		return nil, drivers.ErrTaskNotFound
	}
	return found, nil
}

func (t *task) isOver() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// nothingUntil is a channel that is closed, without a word, when its reader is gone.
func nothingUntil[T any](ctx context.Context) <-chan T {
	nothing := make(chan T)
	context.AfterFunc(ctx, func() { close(nothing) })
	return nothing
}
