"""Who may do what: secrets, roles, authentication."""
