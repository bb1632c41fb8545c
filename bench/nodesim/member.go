package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/client"
	"github.com/hashicorp/nomad/client/config"
	registration "github.com/hashicorp/nomad/client/serviceregistration/mock"
	"github.com/hashicorp/nomad/client/state"
	"github.com/hashicorp/nomad/command/agent/consul"
	"github.com/hashicorp/nomad/helper/pluginutils/loader"
	"github.com/hashicorp/nomad/helper/pluginutils/singleton"
	"github.com/hashicorp/nomad/helper/pointer"
	"github.com/hashicorp/nomad/nomad/structs"
	agentconfig "github.com/hashicorp/nomad/nomad/structs/config"
)

// After this time the servers have refused the client, or they are overloaded.
const registersWithin = 2 * time.Minute

// member is one running node of the cluster.
type member struct {
	client *client.Client
	end    context.CancelFunc
}

// startMember starts a node and waits until it is registered with Nomad's servers.
func startMember(
	ctx context.Context, cluster *Cluster, node *Node, ca string, records *records, logger hclog.Logger,
) (*member, error) {
	agent := newAgent(cluster, node, records)
	conf, err := clientConfig(cluster, node, ca, logger.With("node", node.ID[:8]))
	if err != nil {
		return nil, err
	}
	plugins, err := loader.NewPluginLoader(&loader.PluginLoaderConfig{
		Logger:            conf.Logger,
		InternalPlugins:   simulatedDriver(agent),
		SupportedVersions: loader.AgentSupportedApiVersions,
	})
	if err != nil {
		return nil, err
	}
	conf.PluginLoader = plugins
	conf.PluginSingletonLoader = singleton.NewSingletonLoader(conf.Logger, plugins)
	started, err := client.NewClient(
		conf,
		consul.NewMockCatalog(conf.Logger),
		nil,
		registration.NewServiceRegistrationHandler(conf.Logger),
		nil,
	)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	made := &member{started, end}
	select {
	case <-started.Ready():
	case <-time.After(registersWithin):
		made.stop()
		return nil, fmt.Errorf("it did not register with Nomad's servers within %s", registersWithin)
	case <-ctx.Done():
		made.stop()
		return nil, ctx.Err()
	}
	go agent.report(ctx)
	return made, nil
}

func (m *member) stop() {
	m.end()
	_ = m.client.Shutdown()
}

// clientConfig returns the configuration of leruli_node.nomad.client_config, with two differences, as all
// nodes share one machine: nothing is stored durably, and no node watches the state of the machine.
func clientConfig(cluster *Cluster, node *Node, ca string, logger hclog.Logger) (*config.Config, error) {
	// The path must be short: Nomad makes a socket for each task deep below it, and a socket's path has at
	// most 107 bytes.
	folder := filepath.Join(cluster.Folder, node.ID[:8])
	stateDir := filepath.Join(folder, "client")
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, err
	}
	certificate := filepath.Join(folder, "node.pem")
	key := filepath.Join(folder, "node-key.pem")
	for path, text := range map[string]string{
		certificate: node.Certificate, key: node.Key, filepath.Join(stateDir, "client-id"): node.ID,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	conf := config.DefaultConfig()
	conf.Logger = hclog.NewInterceptLogger(&hclog.LoggerOptions{
		Name: logger.Name(), Level: logger.GetLevel(), Output: os.Stderr,
	})
	conf.Region = cluster.Region
	conf.Servers = cluster.Servers
	conf.IntroToken = node.IntroToken
	conf.StateDir = stateDir
	conf.AllocDir = filepath.Join(folder, "alloc")
	conf.AllocMountsDir = filepath.Join(folder, "alloc_mounts")
	conf.HostVolumesDir = filepath.Join(folder, "host_volumes")
	conf.HostVolumePluginDir = filepath.Join(folder, "host_volume_plugins")
	conf.CommonPluginDir = filepath.Join(folder, "common_plugins")
	// Real nodes have a disk each. Here all of them would wait for one disk, so keep the state in memory.
	conf.StateDBFactory = state.GetStateDBFactory(true)
	conf.CpuCompute = node.Cores * 1000
	conf.MemoryMB = node.MemoryMB
	conf.DiskTotalMB = 1_000_000
	conf.DiskFreeMB = 1_000_000
	conf.MaxKillTimeout = 120 * time.Second
	conf.DisableRemoteExec = true
	conf.GCMaxAllocs = max(50, 4*node.Cores)
	conf.GCInterval = time.Hour
	conf.GCParallelDestroys = 4
	conf.GCDiskUsageThreshold = 99
	conf.GCInodeUsageThreshold = 99
	conf.StatsCollectionInterval = time.Hour
	conf.ACLEnabled = true
	conf.APIListenerRegistrar = config.NoopAPIListenerRegistrar{}
	conf.Options = map[string]string{
		"driver.allowlist":     "leruli",
		"fingerprint.denylist": "env_aws,env_gce,env_azure,env_digitalocean,consul,vault,cni,plugins_cni",
	}
	conf.GetDefaultVault().Enabled = pointer.Of(false)
	conf.GetDefaultConsul().ClientAutoJoin = pointer.Of(false)
	conf.TLSConfig = &agentconfig.TLSConfig{
		EnableHTTP: true, EnableRPC: true, VerifyServerHostname: true,
		CAFile: ca, CertFile: certificate, KeyFile: key,
	}
	conf.Node = &structs.Node{
		Datacenter: cluster.Datacenter, Name: node.ID, NodePool: node.Pool, HTTPAddr: "127.0.0.1:1",
		Meta:       map[string]string{"leruli_jobs": "/simulated"},
		TLSEnabled: true,
	}
	conf.Node.Canonicalize()
	conf.Node.ReservedResources = &structs.NodeReservedResources{}
	return conf, nil
}
