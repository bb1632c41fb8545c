"""Groups and what belongs to them: users, the compute secret."""
