package main

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"
)

// stageDriver says of itself what node_setup/nomad/stage does, which is a program and no package.
type stageDriver struct{ drivers.DriverPlugin }

func newStageDriver(context.Context, hclog.Logger) drivers.DriverPlugin { return &stageDriver{} }

func (*stageDriver) PluginInfo() (*base.PluginInfoResponse, error) {
	return &base.PluginInfoResponse{
		Type:              base.PluginTypeDriver,
		PluginApiVersions: []string{drivers.ApiVersion010},
		PluginVersion:     "0.0.1",
		Name:              "leruli_stage",
	}, nil
}

func (*stageDriver) ConfigSchema() (*hclspec.Spec, error) {
	return hclspec.NewObject(map[string]*hclspec.Spec{}), nil
}

func (*stageDriver) TaskConfigSchema() (*hclspec.Spec, error) {
	return hclspec.NewObject(map[string]*hclspec.Spec{
		"stage": hclspec.NewAttr("stage", "string", true),
	}), nil
}

func (*stageDriver) Capabilities() (*drivers.Capabilities, error) {
	return &drivers.Capabilities{
		MountConfigs: drivers.MountConfigSupportNone, DisableLogCollection: true,
	}, nil
}
