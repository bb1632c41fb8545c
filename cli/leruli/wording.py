"""Parts of sentences: numbers with their nouns, and what a mistyped word may mean."""

from __future__ import annotations

from collections.abc import Iterable

# A known word with at least this similarity (0 to 1) is suggested.
_ALIKE = 0.6
# A word with a similarity this much below the best is not suggested.
_NEARLY = 0.1
_MOST = 3


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return a number with its noun: "1 file", "2 files"; `several` for a noun that takes no s."""
    return f"{number} {one if number == 1 else several or one + 's'}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean ...?" with the known words that are most alike, or ""."""
    import difflib

    scores = [
        (difflib.SequenceMatcher(None, word.lower(), one.lower()).ratio(), one) for one in known
    ]
    best = max((score for score, _ in scores), default=0.0)
    least = max(_ALIKE, best - _NEARLY)
    found = [one for score, one in sorted(scores, reverse=True) if score >= least][:_MOST]
    return f" Did you mean {_either(found)}?" if found else ""


def _either(words: list[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
