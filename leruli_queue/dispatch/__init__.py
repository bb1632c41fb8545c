"""The dispatcher moves jobs between PostgreSQL and Nomad; each module is one duty."""
