"""Setting up a hub: its choices, secrets, certificate and compose file, written together."""

from collections.abc import Mapping, Sequence
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

import acoupi
from acoupi.bundles.bundle_checks import SECCOMP_FILE
from acoupi.bundles.engine import COMPOSE_FILE
from acoupi.bundles.images import database_name, image_name, named_packages, source_dir
from acoupi.bundles.ownership import give, host_owner
from acoupi.bundles.rendering import Manifest, check_not_edited
from acoupi.commit import changing, commit_files
from acoupi.errors import ConfigurationError
from acoupi.hub.bundle.choices import CHOICES_FILE, WRITE_OVER, HubChoices, HubHome
from acoupi.hub.bundle.compose import render_compose
from acoupi.hub.bundle.secrets import (
    BROKER_AUTHORITY,
    SERVERS,
    hub_secrets,
    known_url,
    trusted_file,
)
from acoupi.hub.bundle.services import BROKER, DATABASE, INGEST, SUBSCRIBE
from acoupi.stack.loading import available_programs
from acoupi.writing import READABLE, RenderedFile, disk_error

__all__ = ["choose", "hub_image", "set_up_hub", "wanted_packages"]

FOLDERS = ("audio", "broker", "database", "run")
"""Folders below the hub that belong to the user of its services."""
PRIVATE_FOLDERS = ("secrets", "database", "broker", "tls")


def wanted_packages(choices: HubChoices) -> list[str]:
    """Return what a hub's image has in addition to a sensor's: its libraries, programs."""
    extras = ["hub"]
    extras += ["s3"] if choices.keeps_audio_in_bucket else []
    extras += ["web"] if choices.listen_web else []
    needed = [
        one.partition(";")[0].strip()
        for one in requires("acoupi") or ()
        for extra in extras
        if one.replace("'", '"').endswith(f'extra == "{extra}"')
    ]
    return [*needed, *choices.packages]


def hub_image(choices: HubChoices) -> str:
    """Return the name of the image of all services but PostgreSQL."""
    return image_name(wanted_packages(choices))


def choose(home: HubHome, given: Mapping[str, Any], urls: Mapping[str, str]) -> HubChoices:
    """Return the earlier choices, changed by the given ones.

    Raises
    ------
    ConfigurationError
        If they do not fit together.
    """
    before = home.read().model_dump() if home.is_set_up else {"project": home.own_project}
    own = {
        "has_own_database": DATABASE not in urls,
        "has_own_broker": BROKER not in urls,
        "subscribes": SUBSCRIBE in urls,
        "knows_broker": trusted_file(urls.get(BROKER, "")) is not None,
    }
    workers = before.get("workers", {}) | given.get("workers", {})
    wanted = {program: count for program, count in workers.items() if count}
    choices = HubChoices.model_validate(before | own | {**given, "workers": wanted})
    for program in choices.workers if not choices.packages else ():
        _need_own_program(program)
    return choices.model_copy(update={"packages": tuple(named_packages(choices.packages))})


def _need_own_program(program: str) -> None:
    """Raise if a program is not among those in an image that no package is added to."""
    own = {name: place for name, place in available_programs().items() if _is_own(place)}
    if program not in own and not _is_own(program):
        raise ConfigurationError(
            f'no worker can run the program "{program}".',
            f"--package PACKAGE brings it; without one there are {', '.join(own)}",
            why="it does not ship with acoupi, and no package was named that could bring it.",
        )


def _is_own(place: str) -> bool:
    module = place.partition(":")[0]
    return module.startswith("acoupi.") and find_spec(module) is not None


def set_up_hub(
    home: HubHome,
    given: Mapping[str, Any],
    *,
    own_servers: Mapping[str, str | None],
    force: bool = False,
) -> HubChoices:
    """Write the files of a hub into its folder; choices that are not given stay as they were.

    Parameters
    ----------
    given
        Fields of `HubChoices`; of the workers, those that change, with 0 to remove one.
    own_servers
        The addresses of `SERVERS`; an empty one means the hub's own server again, or for MQTT, no
        broker.
    force
        Overwrite files that were edited by hand.

    Raises
    ------
    AcoupiError
        If the folder is not a hub's, or a choice is wrong; then nothing is written.
    """
    home.check()
    with changing(home.path, "acoupi hub setup"):
        return _set_up(home, given, own_servers, force=force)


def _set_up(
    home: HubHome, given: Mapping[str, Any], own_servers: Mapping[str, str | None], *, force: bool
) -> HubChoices:
    urls = {kind: url for kind in SERVERS if (url := known_url(home, kind, own_servers.get(kind)))}
    choices = choose(home, given, urls)
    owner = host_owner(home.path)
    secrets = {**hub_secrets(home, choices, urls), **_certificate(home, choices)}
    secrets |= _broker_authority(urls)
    generated, more = _rendered(home, choices, owner, secrets)
    before = Manifest.read(home.manifest_file)
    if not force:
        check_not_edited(home.path, generated, before, WRITE_OVER)
    files = {
        **generated,
        **secrets,
        **more,
        CHOICES_FILE: choices.to_file(),
        PurePath(home.manifest_file.name): _manifest(generated).to_file(),
    }
    gone = [home.secrets / f"{kind}.url" for kind in SERVERS if kind not in urls]
    folders = [home.path / one for one in FOLDERS]
    _write(home, files, folders, gone)
    _hand_over(home, choices, owner)
    return choices


def _rendered(
    home: HubHome,
    choices: HubChoices,
    owner: tuple[int, int],
    secrets: Mapping[PurePath, RenderedFile],
) -> tuple[dict[PurePath, RenderedFile], dict[PurePath, RenderedFile]]:
    """Return the generated files of the target, and the files beside them."""
    images = {"image": hub_image(choices), "database_image": database_name()}
    if choices.is_in_cluster:
        from acoupi.hub.bundle.kubernetes import folder_of, secrets_of  # noqa: PLC0415

        return folder_of(home, choices, secrets, **images), secrets_of(choices, secrets)
    profile = (source_dir() / "compose" / SECCOMP_FILE).read_text()
    compose = render_compose(home, choices, owner=owner, **images)
    passwd = f"acoupi:x:{owner[0]}:{owner[1]}::/tmp:/bin/sh\n"
    generated = {PurePath(COMPOSE_FILE): compose, PurePath(SECCOMP_FILE): RenderedFile(profile)}
    return generated, {PurePath("database.passwd"): RenderedFile(passwd)}


def _certificate(home: HubHome, choices: HubChoices) -> dict[PurePath, RenderedFile]:
    from acoupi.hub.bundle.certificates import own_certificate, read_certificate  # noqa: PLC0415

    if not choices.has_tls and choices.listen_broker is None:
        return {}
    if choices.certificate and choices.key:
        return read_certificate(choices.certificate, choices.key)
    names = {choices.name, "localhost", "127.0.0.1", INGEST, BROKER}
    names |= {
        one.address for one in (choices.listen, choices.listen_web, choices.listen_broker) if one
    }
    return own_certificate(home.path, names - {"0.0.0.0", "[::]"})  # noqa: S104 - left out


def _broker_authority(urls: Mapping[str, str]) -> dict[PurePath, RenderedFile]:
    """Return a copy of the authority's file that the broker's address names."""
    file = trusted_file(urls.get(BROKER, ""))
    if file is None:
        return {}
    try:
        return {BROKER_AUTHORITY: RenderedFile(file.read_text(), READABLE)}
    except OSError as error:
        raise disk_error("read", file, error) from error


def _manifest(generated: Mapping[PurePath, RenderedFile]) -> Manifest:
    digests = {path.as_posix(): one.digest for path, one in generated.items()}
    return Manifest(version=acoupi.__version__, target="hub", program="hub", files=digests)


def _write(
    home: HubHome,
    files: Mapping[PurePath, RenderedFile],
    folders: Sequence[Path],
    gone: Sequence[Path],
) -> None:
    commit_files(
        home.path,
        {home.path / path: one for path, one in files.items()},
        remove=[one for one in gone if one.exists()],
        folders=folders,
    )
    for name in PRIVATE_FOLDERS:
        if (home.path / name).is_dir():
            (home.path / name).chmod(0o700)


def _hand_over(home: HubHome, choices: HubChoices, owner: tuple[int, int]) -> None:
    """Give the services ownership of what they read and write, if root sets the hub up."""
    own = [home.path / name for name in (*FOLDERS, "tls", "tls/hub.key", "tls/hub.pem", "ca")]
    own += [home.path / "broker" / "users.acl", home.path / "ca" / "ca.pem"]
    own.append(home.path / BROKER_AUTHORITY)
    if choices.audio and not choices.keeps_audio_in_bucket:
        own.append(Path(choices.audio))
    give([one for one in own if one.exists()], *owner)
