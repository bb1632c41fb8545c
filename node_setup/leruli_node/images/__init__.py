"""The group's images on this node's Docker."""
