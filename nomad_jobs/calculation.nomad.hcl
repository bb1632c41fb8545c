# The parent job of a group's calculations: one parameterized job for each (group, image, cores,
# memory, size of /dev/shm). Each attempt is one dispatch of it. Nomad's own parser fills in the
# variables; there is no text substitution. Why each setting: docs/developers/nomad.md.

variable "id" { type = string }
variable "namespace" { type = string }
variable "region" { type = string }
variable "datacenter" { type = string }
variable "node_pool" { type = string }
variable "node_ids" { type = string }
variable "image" { type = string }
variable "cores" { type = number }
variable "memory_mb" { type = number }
variable "shm_mb" { type = number }

job "calculation" {
  id          = var.id
  name        = var.id
  namespace   = var.namespace
  region      = var.region
  datacenters = [var.datacenter]
  node_pool   = var.node_pool
  type        = "batch"

  parameterized {
    payload       = "forbidden"
    meta_required = ["job", "attempt"]
  }

  # The node pool is for placement. This constraint is the fence: a node cannot choose its id
  # freely.
  constraint {
    attribute = "${node.unique.id}"
    operator  = "set_contains_any"
    value     = var.node_ids
  }

  group "calculation" {
    # The service alone decides about retries: Nomad never restarts, reschedules or replaces. With
    # anything shorter than "never lost" it would place a second copy.
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    disconnect {
      lost_after = "8760h"
      replace    = false
    }
    ephemeral_disk {
      size = 10
    }

    # Stages the job in, runs its container with Nomad's docker driver, and stages it out.
    task "main" {
      driver       = "leruli"
      kill_timeout = "30s"
      config {
        image          = var.image
        entrypoint     = ["/bin/sh", "/leruli/main.sh"]
        work_dir       = "/rundir"
        network_mode   = "none"
        security_opt   = ["no-new-privileges"]
        cpu_hard_limit = true
        pids_limit     = 32768
        # 0: Docker's default, 64 MB.
        shm_size = var.shm_mb * 1048576
        volumes = [
          "${meta.leruli_jobs}/${NOMAD_META_job}x${NOMAD_META_attempt}/rundir:/rundir",
          "${meta.leruli_jobs}/${NOMAD_META_job}x${NOMAD_META_attempt}/control:/leruli",
        ]
        labels = {
          "leruli.node"    = "${node.unique.id}"
          "leruli.attempt" = "${NOMAD_META_job}x${NOMAD_META_attempt}"
        }
      }
      env {
        OMP_NUM_THREADS        = var.cores
        MKL_NUM_THREADS        = var.cores
        OPENBLAS_NUM_THREADS   = var.cores
        NUMEXPR_NUM_THREADS    = var.cores
        VECLIB_MAXIMUM_THREADS = var.cores
      }
      resources {
        cpu    = var.cores * 1000
        memory = var.memory_mb
      }
      logs {
        disabled      = true
        max_files     = 1
        max_file_size = 1
      }
    }
  }
}
