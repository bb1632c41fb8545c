"""Jobs: their states, intake, status, cancelling, and the attempts to run them."""
