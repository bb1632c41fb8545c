"""Access to HashiCorp Nomad: calls, the event stream, job templates."""
