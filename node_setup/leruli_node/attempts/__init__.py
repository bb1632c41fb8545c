"""The attempts on this node, from stage-in to the receipt."""
