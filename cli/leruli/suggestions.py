"""What somebody who mistyped a word may have meant."""

from __future__ import annotations

from collections.abc import Iterable

# How alike two words are, from 0 to 1, when one may be meant by the other.
_ALIKE = 0.6
# So much less alike than the best one is not meant.
_NEARLY = 0.1
_MOST = 3


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
