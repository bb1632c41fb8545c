package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/drivers/docker"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"
	"github.com/hashicorp/nomad/version"
)

const driverName = "leruli"

// driver is the task driver. It wraps Nomad's docker driver, which runs each task's container, in
// two questions to the node agent. The schema of a task, health and statistics are the docker
// driver's.
//
// It has no state beyond Nomad's handles, which are the docker driver's and exist once the
// container does. Before that Nomad starts the task again, and the agent knows what it has done
// already.
type driver struct {
	drivers.DriverPlugin
	logger hclog.Logger

	mutex  sync.Mutex
	socket string
	tasks  map[string]*task
}

func newDriver(ctx context.Context, logger hclog.Logger) *driver {
	logger = logger.Named(driverName)
	return &driver{
		DriverPlugin: docker.NewDockerDriver(ctx, logger), logger: logger, tasks: map[string]*task{},
	}
}

// PluginInfo describes the plugin.
func (d *driver) PluginInfo() (*base.PluginInfoResponse, error) {
	return &base.PluginInfoResponse{
		Type:              base.PluginTypeDriver,
		PluginApiVersions: []string{drivers.ApiVersion010},
		PluginVersion:     version.GetVersion().VersionNumber(),
		Name:              driverName,
	}, nil
}

// ConfigSchema adds the agent's socket to the docker driver's schema. The agent writes the socket
// into the client's configuration.
func (d *driver) ConfigSchema() (*hclspec.Spec, error) {
	dockers, err := d.DriverPlugin.ConfigSchema()
	if err != nil {
		return nil, err
	}
	attributes := maps.Clone(dockers.GetObject().GetAttributes())
	attributes["socket"] = hclspec.NewAttr("socket", "string", true)
	return hclspec.NewObject(attributes), nil
}

// SetConfig stores the socket and passes the rest to the docker driver.
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
	d.socket = config.Socket
	d.mutex.Unlock()
	return d.DriverPlugin.SetConfig(given)
}

// StartTask has the agent stage the job in and starts its container. It returns when the container
// runs; until then Nomad calls the task pending. If stage-in fails or no container starts, the job
// is staged out at once.
func (d *driver) StartTask(config *drivers.TaskConfig) (*drivers.TaskHandle, *drivers.DriverNetwork, error) {
	in, out, err := d.questions(config)
	if err != nil {
		return nil, nil, err
	}
	if _, err := d.find(config.ID); err == nil {
		return nil, nil, fmt.Errorf("the task %s was started before", config.ID)
	}
	if said := in.ask(context.Background()); said.code != 0 {
		out.ask(context.Background())
		return nil, nil, said.asError()
	}
	handle, network, err := d.startContainer(config)
	if err != nil {
		out.ask(context.Background())
		return nil, nil, err
	}
	d.follow(config, out, func(context.Context) error { return nil })
	return handle, network, nil
}

// startContainer starts the container, with folders of the job in place of Nomad's.
func (d *driver) startContainer(
	config *drivers.TaskConfig,
) (*drivers.TaskHandle, *drivers.DriverNetwork, error) {
	own, err := withOwnFolders(config)
	if err != nil {
		return nil, nil, err
	}
	handle, network, err := d.DriverPlugin.StartTask(own)
	if handle != nil {
		handle.Config = config
	}
	return handle, network, err
}

// RecoverTask recovers a task of an earlier Nomad or of an earlier process of this driver. It never
// refuses a task, because Nomad would start a refused one again.
func (d *driver) RecoverTask(handle *drivers.TaskHandle) error {
	if handle == nil || handle.Config == nil {
		return errors.New("the handle has no configuration of a task")
	}
	if _, err := d.find(handle.Config.ID); err == nil {
		return nil
	}
	_, out, err := d.questions(handle.Config)
	if err != nil {
		return err
	}
	d.follow(handle.Config, out, func(ctx context.Context) error {
		return recoverContainer(ctx, func() error { return d.DriverPlugin.RecoverTask(handle) })
	})
	return nil
}

// WaitTask delivers how a task ended, after stage-out.
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

// StopTask ends the container within the given time. Its output is still staged out.
// The agent ends the attempt that runs in the slot after that container, and starts no further one.
func (d *driver) StopTask(taskID string, timeout time.Duration, signal string) error {
	found, err := d.find(taskID)
	if err != nil {
		return err
	}
	found.tellEnd()
	if found.hasNoContainer() {
		return nil
	}
	err = d.DriverPlugin.StopTask(taskID, timeout, signal)
	if !errors.Is(err, drivers.ErrTaskNotFound) {
		return err
	}
	// The container is being recovered. Abandon that, so that the agent ends the container; but it may
	// have been recovered in between.
	found.abandonContainer()
	err = d.DriverPlugin.StopTask(taskID, timeout, signal)
	if errors.Is(err, drivers.ErrTaskNotFound) {
		return nil
	}
	return err
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
	found.abandon()
	d.mutex.Lock()
	delete(d.tasks, taskID)
	d.mutex.Unlock()
	err = d.DriverPlugin.DestroyTask(taskID, force)
	if errors.Is(err, drivers.ErrTaskNotFound) {
		return nil
	}
	return err
}

// InspectTask describes a task.
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

// questions returns the questions to the agent before and after the container.
func (d *driver) questions(config *drivers.TaskConfig) (in question, out question, err error) {
	d.mutex.Lock()
	socket := d.socket
	d.mutex.Unlock()
	if in, err = newQuestion("in", config.Env, config.AllocID, socket); err == nil {
		out, err = newQuestion("out", config.Env, config.AllocID, socket)
	}
	return in, out, err
}

// follow waits for the end of a task's container, then for stage-out. begin makes the docker driver
// know the container; its error means that there is none.
func (d *driver) follow(config *drivers.TaskConfig, out question, begin func(context.Context) error) {
	followed := newTask(config.Name, out.ending())
	d.mutex.Lock()
	d.tasks[config.ID] = followed
	d.mutex.Unlock()
	go followed.run(out, func(ctx context.Context) *drivers.ExitResult {
		if err := begin(ctx); err != nil {
			d.logger.Warn("a container cannot be recovered", "task_id", config.ID, "error", err)
			return &drivers.ExitResult{ExitCode: exitNoContainer, Err: err}
		}
		return d.containerEnd(config.ID)
	})
}

func (d *driver) containerEnd(taskID string) *drivers.ExitResult {
	ended, err := d.DriverPlugin.WaitTask(context.Background(), taskID)
	if err != nil {
		return &drivers.ExitResult{ExitCode: exitNoContainer, Err: err}
	}
	return <-ended
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
