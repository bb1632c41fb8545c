# What the service's token may do in Nomad, and no more. Give it to a token and that to
# LERULI_QUEUE_NOMAD_TOKEN. `node` write is what introduction tokens, eligibility and draining need.

namespace "leruli" {
  capabilities = ["submit-job", "dispatch-job", "read-job", "list-jobs"]
}

node {
  policy = "write"
}

node_pool "*" {
  capabilities = ["read", "write"]
}
