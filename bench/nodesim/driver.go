package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/client/structs"
	"github.com/hashicorp/nomad/drivers/docker"
	"github.com/hashicorp/nomad/helper/pluginutils/loader"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	pstructs "github.com/hashicorp/nomad/plugins/shared/structs"
)

// The name of the task driver in our job template.
const driverName = "leruli"

// simulatedDriver is the task driver of our job template, for one node.
//
// Its schema and capabilities are those of Nomad's docker driver, as in our real driver. So it refuses the
// same templates. Start and end of tasks are simulated.
func simulatedDriver(agent *agent) map[loader.PluginID]*loader.InternalPluginConfig {
	id := loader.PluginID{Name: driverName, PluginType: base.PluginTypeDriver}
	return map[loader.PluginID]*loader.InternalPluginConfig{id: {
		Config: map[string]any{},
		Factory: func(ctx context.Context, logger hclog.Logger) any {
			return &driver{
				DriverPlugin: docker.NewDockerDriver(ctx, logger), agent: agent, tasks: map[string]*task{},
			}
		},
	}}
}

// driver runs a task by the agent: stage-in, command, stage-out.
type driver struct {
	// Docker's driver describes schema and capabilities.
	drivers.DriverPlugin
	agent *agent

	mutex sync.Mutex
	tasks map[string]*task
}

// task is a started task.
type task struct {
	config  *drivers.TaskConfig
	started time.Time
	kill    context.CancelFunc
	// done is closed at the end of the task; code and ended are set before.
	done  chan struct{}
	code  int
	ended time.Time
}

// PluginInfo is the one of Docker's driver with our name.
func (d *driver) PluginInfo() (*base.PluginInfoResponse, error) {
	info, err := d.DriverPlugin.PluginInfo()
	if err != nil {
		return nil, err
	}
	info.Name = driverName
	return info, nil
}

// SetConfig accepts any configuration. Docker's driver would look for Docker.
func (d *driver) SetConfig(*base.Config) error { return nil }

// Fingerprint reports a healthy driver once.
func (d *driver) Fingerprint(ctx context.Context) (<-chan *drivers.Fingerprint, error) {
	found := make(chan *drivers.Fingerprint, 1)
	found <- &drivers.Fingerprint{
		Attributes:        map[string]*pstructs.Attribute{"driver." + driverName: pstructs.NewBoolAttribute(true)},
		Health:            drivers.HealthStateHealthy,
		HealthDescription: drivers.DriverHealthy,
	}
	return found, nil
}

// RecoverTask always fails, as a simulated node stores no state.
func (d *driver) RecoverTask(*drivers.TaskHandle) error { return drivers.ErrTaskNotFound }

// StartTask does the stage-in and starts the command; as the real driver, it returns once the command runs.
func (d *driver) StartTask(config *drivers.TaskConfig) (*drivers.TaskHandle, *drivers.DriverNetwork, error) {
	number, err := strconv.Atoi(config.Env["NOMAD_META_attempt"])
	if err != nil {
		return nil, nil, fmt.Errorf("the task's meta has no attempt: %w", err)
	}
	id := attemptID{strings.ToLower(config.Env["NOMAD_META_job"]), number}
	if code := d.agent.stageIn(context.Background(), id); code != 0 {
		d.agent.stageOut(context.Background(), id)
		return nil, nil, fmt.Errorf("the stage-in failed with code %d", code)
	}
	time.Sleep(seconds(d.agent.cluster.ContainerStartSeconds))
	ctx, kill := context.WithCancel(context.Background())
	started := &task{config: config, started: time.Now(), kill: kill, done: make(chan struct{})}
	handle := drivers.NewTaskHandle(1)
	handle.Config = config
	handle.State = drivers.TaskStateRunning
	d.mutex.Lock()
	d.tasks[config.ID] = started
	d.mutex.Unlock()
	go func() {
		defer kill()
		started.code = d.agent.run(ctx, id)
		started.ended = time.Now()
		close(started.done)
	}()
	return handle, nil, nil
}

// WaitTask sends the result of a task once it has ended.
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
			result <- &drivers.ExitResult{ExitCode: found.code}
		}
	}()
	return result, nil
}

// StopTask ends the simulated command at once. The stage-out still happens.
func (d *driver) StopTask(taskID string, _ time.Duration, _ string) error {
	found, err := d.find(taskID)
	if err != nil {
		return err
	}
	found.kill()
	return nil
}

// DestroyTask removes a task.
func (d *driver) DestroyTask(taskID string, force bool) error {
	found, err := d.find(taskID)
	if err != nil {
		return err
	}
	select {
	case <-found.done:
	default:
		if !force {
			return fmt.Errorf("the task %s still runs", taskID)
		}
		found.kill()
	}
	d.mutex.Lock()
	defer d.mutex.Unlock()
	delete(d.tasks, taskID)
	return nil
}

// InspectTask returns the status of a task.
func (d *driver) InspectTask(taskID string) (*drivers.TaskStatus, error) {
	found, err := d.find(taskID)
	if err != nil {
		return nil, err
	}
	status := &drivers.TaskStatus{
		ID: taskID, Name: found.config.Name, State: drivers.TaskStateRunning, StartedAt: found.started,
	}
	select {
	case <-found.done:
		status.State = drivers.TaskStateExited
		status.CompletedAt = found.ended
		status.ExitResult = &drivers.ExitResult{ExitCode: found.code}
	default:
	}
	return status, nil
}

// TaskStats sends no statistics, as no process runs.
func (d *driver) TaskStats(ctx context.Context, _ string, _ time.Duration) (<-chan *structs.TaskResourceUsage, error) {
	nothing := make(chan *structs.TaskResourceUsage)
	go func() {
		<-ctx.Done()
		close(nothing)
	}()
	return nothing, nil
}

// TaskEvents sends no events.
func (d *driver) TaskEvents(ctx context.Context) (<-chan *drivers.TaskEvent, error) {
	none := make(chan *drivers.TaskEvent)
	go func() {
		<-ctx.Done()
		close(none)
	}()
	return none, nil
}

// SignalTask does nothing.
func (d *driver) SignalTask(string, string) error { return nil }

func (d *driver) find(taskID string) (*task, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	found := d.tasks[taskID]
	if found == nil {
		return nil, drivers.ErrTaskNotFound
	}
	return found, nil
}
