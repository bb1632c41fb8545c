"""`python -m leruli_node` is the command `leruli-node`."""

import sys

from leruli_node.cli import main

sys.exit(main())
