"""The calls to the queue: connection, pages, states, the calls of users and of groups."""
