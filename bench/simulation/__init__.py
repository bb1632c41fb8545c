"""A cluster of many nodes on one machine: the real service, dispatcher, PostgreSQL and Nomad.

What is played, and how, is in bench/README.md.
"""
