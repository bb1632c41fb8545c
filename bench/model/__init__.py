"""Queueing model of a larger cluster, with costs measured by simulations.

``python -m bench.model`` runs it. bench/README.md says what it leaves out.
"""
