"""The provenance of a model's output: model, weights, settings, acoupi and image."""

import hashlib
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from pydantic import ConfigDict

from acoupi import __version__
from acoupi.deferred import DeferredModel

__all__ = ["IMAGE_VARIABLE", "Provenance", "provenance_of"]

_logger = logging.getLogger(__name__)

IMAGE_VARIABLE = "ACOUPI_IMAGE_ID"
"""Environment variable: ``ID@SOURCE`` of the image that the services were started from."""
SOURCE_VARIABLE = "ACOUPI_IMAGE_SOURCE"
"""Environment variable that an image brings: digest of the code that it was made from."""

WEIGHTS = (".pt", ".pth", ".onnx", ".tflite", ".pb", ".h5", ".keras", ".safetensors", ".ckpt",
           ".pkl", ".joblib", ".gguf")  # fmt: skip
"""Suffixes of the files that hold what a model has learnt."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Provenance(DeferredModel):
    """How an output was made; the same for every output made the same way."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model: str
    """Name of the model."""
    model_version: str | None = None
    """Its version; if the model has none, name and version of its package."""
    weights: str | None = None
    """SHA-256 of its weights, hexadecimal. For several files, that of the sorted output of
    ``sha256sum``. None: there are none, or they are unknown."""
    configuration: str = ""
    """Digest of the settings that the output depends on."""
    acoupi: str = __version__
    """Version of acoupi."""
    image: str | None = None
    """Id of the container image, or the label of its source; None: not in a container."""

    @property
    def words(self) -> str:
        """Its model in a few words: name, version, start of the weights' digest.

        Examples
        --------
        >>> Provenance(model="bats", model_version="1.3.1", weights="5f70bf18a086").words
        'bats 1.3.1 sha256:5f70bf18a086'
        """
        weights = self.weights and f"sha256:{self.weights[:12]}"
        return " ".join(filter(None, (self.model, self.model_version, weights)))


def provenance_of(model: object, name: str, configuration: str = "") -> Provenance:
    """Return the provenance of a model's outputs, as far as it is known from outside.

    A model can declare more itself: ``model_version`` (text) and ``model_files`` (paths of its
    weights). Otherwise these are the version of the package that its class comes from, and the
    files of weights that this package, and those that it requires and are imported, ship or have
    in the user's cache. Reads the files: call it once, after the model has run.

    Parameters
    ----------
    model
        An instance; of a function, the function.
    name
        Name under which its outputs are stored.
    configuration
        Digest of the settings that the output depends on.
    """
    version, weights = None, None
    try:
        version = _version(model)
        weights = _digest(_files(model))
    except Exception as error:  # noqa: BLE001 - whatever a package's metadata holds
        _logger.warning("cannot find the provenance of the outputs of %s: %s", name, error)
    return Provenance(
        model=name,
        model_version=version,
        weights=weights,
        configuration=configuration,
        image=_image(),
    )


def _image() -> str | None:
    """Return the id of the image; if that belongs to another image, the label of its source."""
    source = os.environ.get(SOURCE_VARIABLE)
    if not source:
        return None
    id_, _, noted = os.environ.get(IMAGE_VARIABLE, "").partition("@")
    return id_ if id_ and noted == source else f"source:{source}"


def _version(model: object) -> str | None:
    said = getattr(model, "model_version", None)
    if isinstance(said, str | int | float):
        return str(said)
    package = _package_of(model)
    if package == "acoupi":
        return f"acoupi {__version__}"
    found = _distribution(package)
    return None if found is None else f"{found.name} {found.version}"


def _package_of(model: object) -> str:
    """Return the name of the top-level package that a model, or its class, comes from."""
    module = getattr(model, "__module__", None) or type(model).__module__
    return str(module).partition(".")[0]


def _distribution(package: str) -> metadata.Distribution | None:
    names = metadata.packages_distributions().get(package)
    return metadata.distribution(names[0]) if names else None


def _files(model: object) -> dict[str, Path]:
    """Return the files of weights of a model, each with a name that is the same everywhere."""
    said = getattr(model, "model_files", None)
    if isinstance(said, list | tuple):
        return {Path(one).name: Path(one) for one in said}
    package = _package_of(model)
    if package == "acoupi":
        return {}  # its models have no weights
    own = _distribution(package)
    if own is None:
        return dict(_below(Path(place) for place in _places(package)))
    found: dict[str, Path] = {}
    for one in (own, *_required(own)):
        found |= {str(file): Path(str(file.locate())) for file in one.files or () if _holds(file)}
        found |= _below(_caches(one.name))
    return found


def _required(own: metadata.Distribution) -> Iterator[metadata.Distribution]:
    """Yield the requirements of a distribution that are imported here."""
    imported = {
        name.lower()
        for package, names in metadata.packages_distributions().items()
        if package in sys.modules
        for name in names
    }
    for line in own.requires or ():
        name = _NAME.match(line)
        if name and name[0].lower() in imported - {"acoupi"}:
            yield metadata.distribution(name[0])


def _places(package: str) -> Iterable[str]:
    return getattr(sys.modules.get(package), "__path__", ())


def _caches(name: str) -> Iterator[Path]:
    for variable, usual in (("XDG_CACHE_HOME", ".cache"), ("XDG_DATA_HOME", ".local/share")):
        yield Path(os.environ.get(variable) or Path.home() / usual) / name


def _below(folders: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if _holds(path) and path.is_file():
                yield str(path.relative_to(folder.parent)), path


def _holds(path: os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() in WEIGHTS


def _digest(files: dict[str, Path]) -> str | None:
    sums = []
    for name, path in sorted(files.items()):
        with path.open("rb") as file:
            sums.append((hashlib.file_digest(file, "sha256").hexdigest(), name))
    if len(sums) == 1:
        return sums[0][0]
    text = "".join(f"{digest}  {name}\n" for digest, name in sums)
    return hashlib.sha256(text.encode()).hexdigest() if sums else None
