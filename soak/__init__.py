"""`make soak`: runs very many jobs while every part is killed at random. See README.md."""
