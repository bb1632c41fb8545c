"""The command `leruli-node`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from leruli_node import __version__, logs
from leruli_node.agent import Agent
from leruli_node.check import check
from leruli_node.errors import AgentError
from leruli_node.settings import read_settings

_EPILOG = """exit codes: 0 ended by a signal; 2 usage; 69 Docker or Nomad unsuitable; 73 another
agent uses the folder; 75 something cannot be reached; 77 the service refuses this node; 78 settings
missing or wrong"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Return its exit code."""
    parser = argparse.ArgumentParser(
        prog="leruli-node", description="The node agent of Leruli Queue.", epilog=_EPILOG
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="run | check | version")
    commands.add_parser("run", help="run the node agent until TERM; settings: see the README")
    commands.add_parser("check", help="say whether service and object store can be reached")
    commands.add_parser("version", help="print the version")
    command = parser.parse_args(argv).command
    if command == "version":
        print(__version__)
        return 0
    try:
        settings = read_settings(os.environ)
        if command == "check":
            print("\n".join(check(settings)))
            return 0
        logs.configure(settings.log_format, settings.secrets())
        return Agent(settings).run()
    except AgentError as error:
        print(f"leruli-node: {error}", file=sys.stderr)
        return error.exit_code
