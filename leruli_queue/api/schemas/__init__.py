"""Bodies and answers of the API, by subject."""
