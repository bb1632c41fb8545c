"""What the agent asks of Docker, and how it reads what a container left."""
