"""Files of jobs: input, output, and their removal."""
