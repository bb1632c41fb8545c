"""Live output: while somebody follows a job, what it writes goes to its bucket."""
