"""Certificates of a private authority, written into a setting or variable as text."""

import base64
import re
import ssl

__all__ = ["authority_text", "holds_certificates"]

_BEGIN = "-----BEGIN "
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def holds_certificates(text: str) -> bool:
    """Return whether a text is certificates rather than the name of a file."""
    return _BEGIN in text or "\n" in text


def authority_text(text: str) -> str:
    r"""Return the certificates in a text, as PEM.

    In a variable they may have lost their line ends, or have them as ``\n``.

    Raises
    ------
    ValueError
        If there is none in it, or one that is damaged.
    """
    try:
        found = [
            base64.b64decode(_joined(one), validate=True) for one in _CERTIFICATE.findall(text)
        ]
        pem = "".join(map(ssl.DER_cert_to_PEM_cert, found))
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ValueError, ssl.SSLError) as error:
        raise ValueError(_SAID) from error
    return pem


_SAID = (
    "must be a certificate: the lines from -----BEGIN CERTIFICATE----- to "
    "-----END CERTIFICATE-----, whole"
)


def _joined(body: str) -> str:
    return "".join(body.replace("\\n", "").split())
