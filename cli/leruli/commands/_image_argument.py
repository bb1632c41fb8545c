"""The arguments CODE VERSION, also as one word: `list-codes` prints CODE:VERSION."""

from __future__ import annotations

import click


def named_image(
    code: str | None, version: str | None, words: tuple[str, ...] = ()
) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Return code, version and the words after them, from a command line of either form.

    After CODE:VERSION the argument in the place of VERSION is the first of the words.
    """
    name, colon, tag = (code or "").partition(":")
    if not colon:
        return code, version, words
    return name, tag, words if version is None else (version, *words)


def required_image(code: str | None, version: str | None) -> tuple[str, str]:
    """Return the image of a command that needs one. Raises click.UsageError."""
    if not code:
        raise click.UsageError("Missing argument 'CODE'.")
    if not version:
        raise click.UsageError(
            "Missing argument 'VERSION'. An image is named CODE VERSION or CODE:VERSION; "
            "`leruli list-codes` lists them."
        )
    return code, version


def whole_request(
    code: str | None, version: str | None, words: tuple[str, ...]
) -> tuple[str, str, tuple[str, ...]]:
    """Return the image and the command of a command line that must name both.

    Raises click.UsageError.
    """
    code, version, words = named_image(code, version, words)
    image = required_image(code, version)
    if not words:
        raise click.UsageError("Missing argument 'COMMAND...'.")
    return (*image, words)
