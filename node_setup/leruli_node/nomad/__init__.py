"""Nomad's client: its process, its certificate, its servers."""
