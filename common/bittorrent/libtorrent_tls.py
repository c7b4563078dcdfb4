"""How a libtorrent torrent is given its certificate, and how its connections are ended.

Found by measuring 2.1.1: certificates are not in resume data and must be there before the first connection, so a TLS
torrent is added paused and resumed with its certificate; a failing `set_ssl_certificate_buffer` is reported as an error
of the torrent, and it fails without Diffie-Hellman parameters, which nobody uses: our keys are elliptic and TLS 1.3
agrees on its own. libtorrent checks a certificate in the handshake alone; so connections that outlive one are ended by
pausing, which keeps the list of peers, and come back with a new handshake.
"""

from __future__ import annotations

from typing import Any

from common.bittorrent.credentials import Credentials

# The group ffdhe2048 (RFC 7919, appendix A.1) as PKCS #3; shorter ones OpenSSL refuses.
DH_PARAMETERS_PEM = """-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""


def show(handle: Any, credentials: Credentials) -> None:
    """From now on the torrent meets peers with this certificate, and with no other. Does not wait.

    The caller has checked that the pair fits (`credentials.check_pair`).
    """
    handle.pause()
    handle.set_ssl_certificate_buffer(
        credentials.certificate_pem.decode("ascii"), credentials.key_pem.decode("ascii"), DH_PARAMETERS_PEM
    )
    handle.resume()


def hide(handle: Any) -> None:
    """End every connection, and make and take none until `show`. Does not wait."""
    handle.pause()
