"""Checks whether a server on this machine answers plain HTTP."""

from __future__ import annotations

import ssl

import httpx

# Without it httpx reads the authorities of the whole web for each call, although the call needs no
# TLS. That takes 40 ms of CPU, again and again while a part that needs the CPU starts.
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def answers(url: str) -> bool:
    """Tell whether a GET of an address succeeds."""
    try:
        return httpx.get(url, timeout=2, trust_env=False, verify=NO_AUTHORITIES).is_success
    except httpx.HTTPError:
        return False
