"""Which certificate authorities are believed."""

from __future__ import annotations

import contextlib
import os
import ssl

# Read by other tools of the same machine; whoever set one of these expects it to count here too.
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "SSL_CERT_FILE")

# What TLS says of an answer that is none of TLS: older and newer versions of OpenSSL.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")


def speaks_plain_http(error: BaseException) -> bool:
    """Whether a failed connection by https:// met a server that speaks http:// only."""
    text = str(error).upper().replace(" ", "_")
    return any(word in text for word in _NO_TLS)


def tls_context(*, secure: bool) -> ssl.SSLContext:
    """Return a context that believes Mozilla's, the system's and the environment's CAs.

    A bundle named in the environment adds to the others; one that does not exist or cannot be
    read is passed over, as it may be meant for another program.
    With `secure` false (a plain http:// address) the context trusts nobody, which costs nothing
    to make; loading the authorities takes some 20 ms.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if secure:
        import certifi  # comes with minio

        context.load_verify_locations(certifi.where())
        with contextlib.suppress(OSError):
            context.load_default_certs()
        for path in filter(None, map(os.environ.get, _BUNDLES)):
            with contextlib.suppress(OSError):  # ssl.SSLError is an OSError
                context.load_verify_locations(path)
    return context
