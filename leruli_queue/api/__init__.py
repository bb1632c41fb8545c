"""The HTTP API: parse, authorise, call one function, answer."""
