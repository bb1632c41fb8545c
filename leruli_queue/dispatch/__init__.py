"""The dispatcher: what moves jobs between PostgreSQL and Nomad, one duty a module."""
