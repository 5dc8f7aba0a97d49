"""TLS for the HTTP and MQTT messengers: loading certificates, explaining failures."""

import ssl
from pathlib import Path
from typing import NamedTuple

from acoupi import data
from acoupi.errors import ConfigurationError
from acoupi.home import home_dir

__all__ = ["Certificates", "explain_tls"]


class Certificates(NamedTuple):
    """Trusted authorities, as a file or as PEM, and the client certificate of the sensor."""

    ca_certificate: Path | str | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    verify: bool = True

    @classmethod
    def in_home(
        cls,
        ca_certificate: Path | str | None,
        client_certificate: Path | None,
        client_key: Path | None,
        verify: bool,
    ) -> "Certificates":
        """Return those of a sensor: a relative path is one below ACOUPI_HOME."""
        home = home_dir()
        return cls(
            home / ca_certificate if isinstance(ca_certificate, Path) else ca_certificate,
            client_certificate and home / client_certificate,
            client_key and home / client_key,
            verify,
        )

    def context(self) -> ssl.SSLContext:
        """Load them.

        Raises
        ------
        ConfigurationError
            Naming the file that is missing or not what it should be.
        """
        authority = self.ca_certificate
        context = (
            ssl.create_default_context(cadata=authority)
            if isinstance(authority, str)
            else ssl.create_default_context(cafile=_readable(authority, "ca_certificate"))
        )
        context.sslsocket_class = _TidySocket
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        certificate = _readable(self.client_certificate, "client_certificate")
        if certificate:
            key = _readable(self.client_key, "client_key")
            try:
                # The password of an encrypted key would be asked for at a terminal.
                context.load_cert_chain(certificate, key, password=_no_password)
            except (ssl.SSLError, ValueError) as err:
                raise ConfigurationError(
                    f'cannot use client_certificate "{certificate}" with its key.',
                    "give a PEM certificate and its own private key, not encrypted",
                    why=str(err),
                ) from err
        return context


class _TidySocket(ssl.SSLSocket):
    """Closes itself where a handshake fails; paho forgets to."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _no_password() -> str:
    raise ValueError("the private key is encrypted")


def _readable(path: Path | None, setting: str) -> str | None:
    """Return the path of a PEM file that exists."""
    if path is None:
        return None
    try:
        is_pem = b"-----BEGIN " in path.read_bytes()
    except OSError as err:
        raise ConfigurationError(
            f'cannot read {setting} "{path}".',
            f"put the file there, or correct {setting}",
            why=err.strerror,
        ) from err
    if not is_pem:
        raise ConfigurationError(
            f'{setting} "{path}" is not a PEM file.',
            "convert it: openssl x509 -inform der -in FILE -out FILE.pem",
            why='it has no line "-----BEGIN …"',
        )
    return str(path)


_WRONG_NAME = 62
_REMEDIES = {
    9: ("its certificate is not valid yet", "set the clock, or wait until it is synchronised"),
    10: ("its certificate has expired", "check the clock; if it is right, ask for a new one"),
}
"""By the codes of OpenSSL (X509_V_ERR_...)."""


def explain_tls(error: ssl.SSLError) -> tuple[str, str]:
    """Return why a TLS connection failed, and what to try."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_certificate(error)
    if isinstance(error, ssl.SSLEOFError):
        return "it hung up; it may require a client certificate", "set client_certificate"
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "certificate required" in reason or "handshake failure" in reason:
        return f"{reason}: it requires a client certificate", "set client_certificate"
    if "wrong version number" in reason:
        return f"{reason}: it does not speak TLS on this port", "correct the port"
    return f"TLS failed: {reason}", "check the port and the certificates"


def _explain_certificate(error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    if error.verify_code in _REMEDIES:
        why, help_ = _REMEDIES[error.verify_code]
        return f"{why}; the clock of this board says {data.utc_now():%Y-%m-%d %H:%M} UTC", help_
    if error.verify_code == _WRONG_NAME:
        return error.verify_message, "set the host to a name that is in the certificate"
    return (
        f"its certificate is not trusted: {error.verify_message}",
        "set ca_certificate to the PEM file of the authority that signed it",
    )
