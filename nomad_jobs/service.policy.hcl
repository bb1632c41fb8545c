# The rights of the service's token in Nomad, and no more. Attach the policy to a token and set
# LERULI_QUEUE_NOMAD_TOKEN to that token. `node` write is needed for introduction tokens,
# eligibility and draining.

namespace "leruli" {
  capabilities = ["submit-job", "dispatch-job", "read-job", "list-jobs"]
}

node {
  policy = "write"
}

node_pool "*" {
  capabilities = ["read", "write"]
}
