"""``leruli-queue secret-find``."""

from __future__ import annotations

import json
import sys
from typing import BinaryIO

import click

from leruli_queue.access.secrets import find_secrets


@click.command("secret-find")
@click.argument("files", nargs=-1, type=click.File("rb"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
def command(files: tuple[BinaryIO, ...], *, as_json: bool) -> None:
    """Find secrets of Leruli Queue in FILES, or in standard input.

    Prints the place, the type and the key id of each secret, and never the secret. Texts whose
    checksum does not match are left out.

    With the key id of an API secret, `leruli group users` shows its owner, and
    `leruli group revoke-user --key-id` revokes it.

    Exit code as of grep: 0 if a secret was found, 1 if none was.
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
