"""The calls to the service."""
