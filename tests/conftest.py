"""What holds for every test."""

from __future__ import annotations

import signal

# What a script starts in its background ignores Ctrl-C; what the tests start must not.
signal.signal(signal.SIGINT, signal.default_int_handler)
