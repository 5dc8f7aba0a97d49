"""The certificate of a hub: made here, unless there is one from a public authority.

A hub has its own certificate authority, which signs only the hub's certificate. Sensors and
workers get the authority's file once; the certificate can be renewed without them.
"""

import datetime
import ipaddress
from collections.abc import Iterable
from pathlib import Path, PurePath

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from acoupi import clock
from acoupi.errors import ConfigurationError
from acoupi.writing import PRIVATE, READABLE, RenderedFile, disk_error

__all__ = ["AUTHORITY", "CERTIFICATE", "KEY", "own_certificate", "read_certificate"]

AUTHORITY = PurePath("ca/ca.pem")
AUTHORITY_KEY = PurePath("secrets/ca.key")
CERTIFICATE, KEY = PurePath("tls/hub.pem"), PurePath("tls/hub.key")
YEARS = datetime.timedelta(days=3650)
"""Validity of the authority and its certificates: sensors may be unattended for years."""
RENEWED_BEFORE = datetime.timedelta(days=365)
EARLIER = datetime.timedelta(days=1)
"""How long before now they become valid: clocks of boards differ."""


def read_certificate(certificate: Path, key: Path) -> dict[PurePath, RenderedFile]:
    """Return the files of a certificate from another authority, with its key.

    Raises
    ------
    ConfigurationError
        If they are not a certificate and its key, or it is no longer valid.
    """
    texts = [_read(certificate), _read(key)]
    try:
        found = x509.load_pem_x509_certificate(texts[0])
        fits = load_pem_private_key(texts[1], None).public_key() == found.public_key()
    except (ValueError, TypeError) as error:
        raise _refused(certificate, f"{' '.join(str(error).split())}.") from error
    if not fits:
        raise _refused(certificate, f'the key "{key}" belongs to another certificate.')
    if found.not_valid_after_utc < clock.utc_now():
        raise _refused(certificate, f"it expired on {found.not_valid_after_utc}.")
    return {
        CERTIFICATE: RenderedFile(texts[0].decode(), READABLE),
        KEY: RenderedFile(texts[1].decode(), PRIVATE),
    }


def own_certificate(home: Path, names: Iterable[str]) -> dict[PurePath, RenderedFile]:
    """Return the files of a certificate made here; existing ones are kept if they fit.

    Parameters
    ----------
    home
        Of the hub.
    names
        Names and addresses at which the hub is reached.
    """
    wanted = {_general_name(one) for one in names}
    authority, key = _own_authority(home)
    files = {
        AUTHORITY: RenderedFile(_pem(authority), READABLE),
        AUTHORITY_KEY: RenderedFile(_key_pem(key), PRIVATE),
    }
    if _is_good(home / CERTIFICATE, wanted, authority):
        return files | {
            CERTIFICATE: RenderedFile(_read(home / CERTIFICATE).decode(), READABLE),
            KEY: RenderedFile(_read(home / KEY).decode(), PRIVATE),
        }
    own = _new_key()
    made = _signed("acoupi hub", own, authority, key, sorted(wanted, key=repr))
    return files | {
        CERTIFICATE: RenderedFile(_pem(made), READABLE),
        KEY: RenderedFile(_key_pem(own), PRIVATE),
    }


def _own_authority(home: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return the authority of the hub and its key; existing ones are kept.

    If only the key came with a copy of the folder `secrets`, the authority is made from it again:
    whoever trusts the earlier one trusts this one, too.
    """
    if not (home / AUTHORITY_KEY).exists():
        key = _new_key()
    else:
        found = load_pem_private_key(_read(home / AUTHORITY_KEY), None)
        assert isinstance(found, ec.EllipticCurvePrivateKey)
        key = found
        if (home / AUTHORITY).exists():
            authority = x509.load_pem_x509_certificate(_read(home / AUTHORITY))
            if authority.public_key() == key.public_key():
                return authority, key
    return _signed("acoupi hub authority", key, None, key, ()), key


def _is_good(path: Path, wanted: set[x509.GeneralName], authority: x509.Certificate) -> bool:
    """Return whether there is a lasting certificate from this authority for these names."""
    if not path.exists():
        return False
    found = x509.load_pem_x509_certificate(_read(path))
    try:
        found.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    named = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    lasts = found.not_valid_after_utc - clock.utc_now() > RENEWED_BEFORE
    return lasts and wanted <= set(named)


def _general_name(text: str) -> x509.GeneralName:

    try:
        return x509.IPAddress(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        return x509.DNSName(text)


def _new_key() -> ec.EllipticCurvePrivateKey:

    return ec.generate_private_key(ec.SECP256R1())


def _signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
    names: Iterable[x509.GeneralName],
) -> x509.Certificate:
    """Return a certificate; if there is no authority, that of an authority."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = clock.utc_now()
    is_authority = authority is None
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if authority is None else authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + YEARS)
        .add_extension(x509.BasicConstraints(is_authority, 0 if is_authority else None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        )
        .add_extension(_usage(is_authority=is_authority), True)
    )
    if not is_authority:
        made = made.add_extension(x509.SubjectAlternativeName(names), False)
    return made.sign(signer, hashes.SHA256())


def _usage(*, is_authority: bool) -> x509.KeyUsage:

    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:

    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise disk_error("read", path, error) from error


def _refused(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f'"{path}" cannot be the certificate of the hub.',
        "--tls-certificate FILE.pem --tls-key FILE.key, both PEM, the key without a password",
        why=why,
    )
