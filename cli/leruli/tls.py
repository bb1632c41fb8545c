"""The certificate authorities that the client trusts."""

from __future__ import annotations

import contextlib
import os
import ssl

# Other tools read these variables. A user who set one expects this client to read it too.
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "SSL_CERT_FILE")

# Errors of old and new versions of OpenSSL for an answer that is not TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")


def speaks_plain_http(error: BaseException) -> bool:
    """Whether an https:// connection failed because the server speaks only http://."""
    text = str(error).upper().replace(" ", "_")
    return any(word in text for word in _NO_TLS)


def tls_context(*, secure: bool) -> ssl.SSLContext:
    """Return a context that trusts the CAs of Mozilla, of the system and of the environment.

    A bundle in the environment adds to the others. One that cannot be read is ignored, because it
    may be meant for another program. With `secure` false (an http:// address) the context trusts no
    CA: loading the authorities takes about 20 ms.
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
