"""Nodes: how a machine becomes one and leaves."""
