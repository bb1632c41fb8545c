"""HTTP connections to the service, which are kept between calls."""

from __future__ import annotations

import os
import socket
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import urllib3
from urllib3.connection import HTTPConnection

# Some firewalls forget a connection that is silent for a minute. Then a call would hang.
_PROBED_AFTER_S = 20
# After this time without an acknowledgement a connection is broken.
_UNACKNOWLEDGED_S = 15
_KEPT = 8


def connections_to(url: str) -> urllib3.PoolManager:
    """Return connections to the host of a URL: by the proxy of the environment, if there is one.

    The environment may also name certificate authorities (SSL_CERT_FILE, SSL_CERT_DIR).
    """
    options: dict[str, Any] = {
        # The callers retry, and can be interrupted.
        "retries": False,
        "maxsize": _KEPT,
        "cert_reqs": "CERT_REQUIRED",
        **_authorities(),
        "socket_options": [
            *HTTPConnection.default_socket_options,
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBED_AFTER_S),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBED_AFTER_S),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_S * 1000),
        ],
    }
    proxy = _proxy_for(url)
    if proxy is None:
        return urllib3.PoolManager(**options)
    parts = urlsplit(proxy)
    if parts.username is not None:
        named = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=named)
        proxy = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return urllib3.ProxyManager(proxy, **options)


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _authorities() -> dict[str, str]:
    named, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if named:
        return {"ca_certs": named}
    return {"ca_cert_dir": folder} if folder else {"ca_certs": certifi.where()}
