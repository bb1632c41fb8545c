"""``leruli-queue secret-find``."""

from __future__ import annotations

import json
import sys
from typing import BinaryIO

import click

from leruli_queue.access.secrets import find_secrets


@click.command("secret-find")
@click.argument("files", nargs=-1, type=click.File("rb"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line.")
def command(files: tuple[BinaryIO, ...], *, as_json: bool) -> None:
    """Find secrets of Leruli Queue in FILES, or in standard input.

    Prints where, of which type, and the key id; never the secret. By the key id of an API secret
    `leruli group users` shows whose it is, and `leruli group revoke-user --key-id` ends it.
    What only looks like one (its checksum does not match) is left out. Exit code 0 when one was
    found, 1 when none was, as grep has it.
    """
    found = False
    for file in files or (sys.stdin.buffer,):
        name = file.name if files else "(standard input)"
        for number, line in enumerate(file, start=1):
            for secret in find_secrets(line.decode("utf-8", "replace")):
                found = True
                where = {"file": name, "line": number}
                what = {"type": secret.kind.value, "what": secret.kind.title, "key": secret.key_id}
                if as_json:
                    click.echo(json.dumps(where | what))
                else:
                    click.echo(f"{name}:{number}: {secret.kind.title}, key id {secret.key_id}")
    sys.exit(0 if found else 1)
