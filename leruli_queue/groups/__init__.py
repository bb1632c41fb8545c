"""Groups: their users, tokens and secrets, cluster, activity and usage."""
