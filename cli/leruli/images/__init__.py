"""Images of the group: published, listed, deleted, moved when the group token is rotated."""
