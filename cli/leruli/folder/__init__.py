"""A job folder on this machine: its files, its record, its archive, the journal of a batch."""
