"""Docker, and the notes and files that a container left."""
