"""A cluster of many simulated nodes on one machine.

Service, dispatcher, PostgreSQL and Nomad are real. bench/README.md says which parts are simulated.
"""
