"""Building the image that every service of a bundle runs in.

The image of acoupi is made from this code: from the checkout, or from the
installed package, which contains the sources of its image. Extra packages are a
thin layer on top, in an image of their own.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import acoupi
from acoupi.bundles.build_errors import explain_build, no_space
from acoupi.bundles.engine import Engine, unreachable
from acoupi.errors import AcoupiError, TargetError
from acoupi.home import expanded

__all__ = [
    "REPOSITORY",
    "build_database",
    "build_image",
    "copy_sources",
    "database_name",
    "fill_program_context",
    "image_name",
    "named_packages",
    "source_dir",
    "weights_in",
    "why_build",
    "without_password",
]

REPOSITORY = "acoupi/sensor"
BASE = "debian:bookworm-slim"
SOURCE_LABEL = "io.acoupi.source"
SPACE_NEEDED = 1_000_000_000
"""Free bytes that a complete build needs temporarily, without its extra packages."""
PACKAGE = Path(acoupi.__file__).resolve().parent
CONTEXT = ("pyproject.toml", "README.md", "compose", "images")
"""Sources of the image besides the package itself."""
WEIGHTS = "weights:"
"""Prefix of a package that is a folder of weights, fetched elsewhere."""
OnLine = Callable[[str], None]


def source_dir() -> Path:
    """Return the folder of ``images/`` and ``compose/``: the checkout, or a part of the package."""
    checkout = PACKAGE.parent
    return checkout if (checkout / "images").is_dir() else PACKAGE / "_bundle"


def image_name(packages: Sequence[str] = (), version: str | None = None) -> str:
    """Return the name of the image, with its tag.

    Parameters
    ----------
    packages
        Extra packages in it: pip requirements, local paths, or `weights_in`.
    version
        Of acoupi; None: this one.

    Examples
    --------
    >>> image_name(version="1.2.0")
    'acoupi/sensor:1.2.0'
    >>> image_name(["acoupi-birdnet"], version="1.2.0")
    'acoupi/sensor:1.2.0-b18a3b7f'
    """
    tag = re.sub(r"[^A-Za-z0-9_.-]", "-", version or acoupi.__version__)
    plain = f"{REPOSITORY}:{tag}"
    if not packages:
        return plain
    named = "\n".join(sorted(packages)).encode()
    return f"{plain}-{hashlib.sha256(named).hexdigest()[:8]}"


def named_packages(packages: Sequence[str]) -> list[str]:
    """Return packages with absolute paths, so that their names mean the same everywhere.

    Raises
    ------
    TargetError
        If a path is not a package.
    """
    return [
        package if package.startswith(WEIGHTS) else str(_local_path(package) or package)
        for package in packages
    ]


def weights_in(folder: Path) -> str:
    """Return a folder of weights as one of the packages of an image.

    Its files go where libraries look for cached files (``XDG_CACHE_HOME``), before the models
    are first loaded.

    Raises
    ------
    TargetError
        If there are no files in it.
    """
    found = expanded(folder).resolve()
    if any(path.is_file() for path in found.rglob("*")):
        return f"{WEIGHTS}{found}"
    raise TargetError(
        f'there are no weights in "{folder}".',
        "--weights with a folder of files, laid out as in the model's cache: acoupi help presets",
        why=f"{found} {'holds no files' if found.is_dir() else 'is not a folder'}.",
    )


def why_build(
    image: str, packages: Sequence[str] = (), *, engine: Engine | None = None
) -> str | None:
    """Return why an image must be built; None if it is up to date.

    Raises
    ------
    TargetError
        If the engine does not answer.
    """
    labels = _labels(engine or Engine(), image)
    if labels is None:
        return f"there is no image {image} yet"
    if labels.get(SOURCE_LABEL) != _digest(packages):
        return "its code has changed" if labels.get(SOURCE_LABEL) else "it was not made by acoupi"
    return None


def build_image(
    packages: Sequence[str] = (),
    *,
    image: str | None = None,
    base: str | None = None,
    network: str | None = None,
    system_packages: Sequence[str] = (),
    on_line: OnLine | None = None,
    echo: OnLine | None = None,
    engine: Engine | None = None,
) -> str:
    """Build the image, and the image below it if that is not up to date.

    Parameters
    ----------
    packages
        Extra packages: pip requirements, paths of source folders and
        wheels, or `weights_in`.
    image
        Its name; None: that of `image_name`.
    base
        The image below it; None: Debian.
    network
        Of the build: "host" where the engine's own network has no way out.
        None: host if the base image was made on this machine, as it is where
        no registry can be reached.
    system_packages
        Debian packages that the extra packages need.
    on_line
        Called with each line of build output.
    echo
        Called with each command line before it is run.
    engine
        The engine; None: the one that ``docker`` uses.

    Returns
    -------
    str
        The name of the image.

    Raises
    ------
    TargetError
        If there is no engine, no space, no base image or no such package.
    """
    engine = engine or Engine()
    told = _Callbacks(engine, on_line or _ignore, echo or _ignore)
    _check_space(engine)
    base = base or os.environ.get("ACOUPI_BASE_IMAGE") or BASE
    network = network or _network_for(engine, base)
    sensor = image_name() if packages or not image else image
    if not packages or why_build(sensor, engine=engine):
        _build_sensor(sensor, base, network, told)
    if not packages:
        return sensor
    name = image or image_name(packages)
    arguments = {"SENSOR": sensor, "SYSTEM_PACKAGES": " ".join(system_packages)}
    _build_program(name, packages, arguments, network=network, told=told)
    return name


def database_name() -> str:
    """Return the name of the image of PostgreSQL for a hub, with its tag."""
    return f"acoupi/database:{image_name().partition(':')[2]}"


def build_database(
    *, on_line: OnLine | None = None, echo: OnLine | None = None, engine: Engine | None = None
) -> str:
    """Build the image of PostgreSQL for a hub, unless it is up to date; return its name.

    Raises
    ------
    TargetError
        If there is no engine, no space or no base image.
    """
    engine, name = engine or Engine(), database_name()
    told = _Callbacks(engine, on_line or _ignore, echo or _ignore)
    digest = hashlib.sha256()
    for source in ("images/database", "images/sensor/health"):
        _add_to_digest(digest, source_dir() / source)
    arguments = {"VERSION": acoupi.__version__, "SOURCE_DIGEST": digest.hexdigest()[:16]}
    labels = _labels(engine, name) or {}
    if labels.get(SOURCE_LABEL) == arguments["SOURCE_DIGEST"]:
        return name
    _check_space(engine)
    arguments["BASE"] = base = os.environ.get("ACOUPI_BASE_IMAGE") or BASE
    with _sensor_context() as context:
        file = context / "images" / "database" / "Dockerfile"
        _run_build(_Build(name, file, context, arguments, _network_for(engine, base)), told)
    return name


def _build_sensor(name: str, base: str, network: str | None, told: "_Callbacks") -> None:
    arguments = {
        "BASE": base,
        "VERSION": acoupi.__version__,
        "REVISION": _revision(),
        "SOURCE_DIGEST": _digest(()),
    }
    with _sensor_context() as context:
        file = context / "images" / "sensor" / "Dockerfile"
        _run_build(_Build(name, file, context, arguments, network), told)


def _build_program(
    name: str,
    packages: Sequence[str],
    arguments: dict[str, str],
    *,
    network: str | None,
    told: "_Callbacks",
) -> None:
    arguments = {
        **arguments,
        "BUILD_PACKAGES": "git" if any("git+" in one for one in packages) else "",
        "SOURCE_DIGEST": _digest(packages),
        "PACKAGES": " ".join(without_password(one) for one in packages),
    }
    file = source_dir() / "images" / "program" / "Dockerfile"
    with tempfile.TemporaryDirectory(prefix="acoupi-build-") as folder:
        context = Path(folder)
        fill_program_context(context, packages)
        _run_build(_Build(name, file, context, arguments, network), told)


# --- what is built ---------------------------------------------------------------------


@contextmanager
def _sensor_context() -> Iterator[Path]:
    """Yield a folder with the sources of the sensor image."""
    source = source_dir()
    if source == PACKAGE.parent:
        yield source  # .dockerignore leaves out the rest
        return
    with tempfile.TemporaryDirectory(prefix="acoupi-build-") as folder:
        copy_sources(Path(folder))
        yield Path(folder)


def copy_sources(folder: Path) -> None:
    """Copy the sources of the sensor image to a folder."""
    source = source_dir()
    for name in CONTEXT:
        _copy(source / name, folder / name)
    _copy(PACKAGE, folder / "acoupi")
    shutil.rmtree(folder / "acoupi" / "_bundle", ignore_errors=True)


def fill_program_context(context: Path, packages: Sequence[str]) -> None:
    """Write the requirements, with local packages and weights beside them.

    Raises
    ------
    TargetError
        If a path leads nowhere.
    """
    lines = []
    weights = context / "weights"
    for number, package in enumerate(packages):
        path = _local_path(package)
        if path is None:
            lines.append(package)
        elif package.startswith(WEIGHTS):
            _copy(path, weights)
        else:
            place = Path(str(number)) / path.name
            _copy(path, context / "sources" / place)
            lines.append(f"./{place.as_posix()}")  # COPY takes files in sources
    (context / "requirements.txt").write_text("".join(f"{line}\n" for line in lines))
    files = [path for path in sorted(weights.rglob("*")) if path.is_file()]
    sums = [f"{_sha256(path)}  {path.relative_to(weights)}\n" for path in files]
    weights.mkdir(exist_ok=True)
    (weights / "weights.sha256").write_text("".join(sums))  # COPY wants a folder that is not empty


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _local_path(package: str) -> Path | None:
    """Return where a package is if it is a path, None if it is a requirement."""
    if package.startswith(WEIGHTS):
        return Path(weights_in(Path(package.removeprefix(WEIGHTS))).removeprefix(WEIGHTS))
    path = expanded(package)
    looks_like_path = package.startswith((".", "/", "~")) or path.suffix == ".whl"
    if not looks_like_path:
        return None
    path = path.resolve()
    is_package = path.suffix in (".whl", ".gz", ".zip") and path.is_file()
    if is_package or (path / "pyproject.toml").is_file() or (path / "setup.py").is_file():
        return path
    raise TargetError(
        f'there is no Python package at "{package}".',
        "--package with the folder of its pyproject.toml, or with the name of a package",
        why=f"{path} {'has no pyproject.toml' if path.exists() else 'does not exist'}.",
    )


_LEFT_OUT = frozenset({
    "__pycache__", ".git", ".venv", "venv", ".mypy_cache", ".ruff_cache", ".pytest_cache",
    "node_modules", ".env",
})  # fmt: skip
"""Files and folders of a package that are not built from."""


def _copy(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        ignored = shutil.ignore_patterns(*_LEFT_OUT, "*.pyc")
        shutil.copytree(source, destination, ignore=ignored, symlinks=True)
    else:
        shutil.copy2(source, destination)


def _digest(packages: Sequence[str]) -> str:
    """Return a digest of the sources, which changes when the image would."""
    source = source_dir()
    digest = hashlib.sha256()
    roots = [PACKAGE, *(source / name for name in CONTEXT)]
    for root in roots:
        _add_to_digest(digest, root)
    for package in sorted(packages):
        digest.update(package.encode() + b"\0")
        path = _local_path(package)
        if path is not None:
            _add_to_digest(digest, path)
    return digest.hexdigest()[:16]


def _add_to_digest(digest: "hashlib._Hash", root: Path) -> None:
    files = [root] if root.is_file() else sorted(root.rglob("*"))
    for path in files:
        inside = path.relative_to(root.parent)
        if path.is_file() and not (_LEFT_OUT | {"_bundle"}).intersection(inside.parts):
            digest.update(inside.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")


def _revision() -> str:
    """Return the commit of the checkout; "unknown" if there is none."""
    if not (PACKAGE.parent / ".git").exists():
        return "unknown"
    try:
        asked = ["git", "-C", str(PACKAGE.parent), "rev-parse", "HEAD"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def without_password(requirement: str) -> str:
    """Return a requirement without the password in its URL.

    Examples
    --------
    >>> without_password("git+https://me:secret@example.org/mine")
    'git+https://example.org/mine'
    """
    return re.sub(r"//[^/@\s]+@", "//", requirement)


PIP_SETTINGS = {
    "index-url": "PIP_INDEX_URL",
    "cert": "PIP_CERT",
    "trusted-host": "PIP_TRUSTED_HOST",
    "timeout": "PIP_DEFAULT_TIMEOUT",
}
"""What of pip's settings holds in an image, too; not folders of this machine."""


def pip_variables() -> dict[str, str]:
    """Return pip's settings on this machine that a build needs, as variables; none without pip."""
    asked = [sys.executable, "-m", "pip", "config", "list"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found = re.findall(r"(?m)^(?:global|:env:)\.([\w-]+)='([^'\n]*)'$", done.stdout)
    return {PIP_SETTINGS[name]: text for name, text in found if name in PIP_SETTINGS}


# --- asking the engine -----------------------------------------------------------------


def _labels(engine: Engine, image: str) -> dict[str, str] | None:
    """Return the labels of an image; None: there is no such image."""
    for found in engine.inspect("image", image):
        return dict((found.get("Config") or {}).get("Labels") or {})
    return None


def _network_for(engine: Engine, base: str) -> str | None:
    """Return the network to build with: the host's if the base came from no registry."""
    if chosen := os.environ.get("ACOUPI_BUILD_NETWORK"):
        return chosen
    found = engine.inspect("image", base)
    return "host" if found and not found[0].get("RepoDigests") else None


def _check_space(engine: Engine) -> None:
    """Raise if the engine does not answer, or its disk is nearly full.

    Raises
    ------
    TargetError
        With the free space.
    """
    answer = engine.ask("info", "--format", "{{.DockerRootDir}}")
    if not answer.is_ok:
        raise unreachable(answer)
    root = answer.out.strip()
    try:
        free = shutil.disk_usage(root).free
    except OSError:
        return  # an engine on another machine
    if free < SPACE_NEEDED:
        raise no_space(
            f"{root} has {free / 1e6:.0f} MB free; a build needs about 1000, plus the "
            "packages of a program (with torch: 13 GB)."
        )


# --- building --------------------------------------------------------------------------


def _ignore(line: str) -> None:
    del line


@dataclass(frozen=True)
class _Callbacks:
    """The engine, and callbacks for build output and for command lines."""

    engine: Engine
    line: OnLine
    command: OnLine


@dataclass(frozen=True)
class _Build:
    """One call of the builder."""

    name: str
    file: Path
    context: Path
    arguments: dict[str, str]
    network: str | None

    @cached_property
    def pip(self) -> dict[str, str]:
        """Variables with this machine's pip settings, if the build uses its network."""
        return pip_variables() if self.network == "host" else {}

    @property
    def words(self) -> list[str]:
        arguments = [f"{key}={value}" for key, value in sorted(self.arguments.items())]
        arguments += sorted(self.pip)  # without the values: they may hold a password
        return [
            *("buildx", "build", "--load", "--progress", "plain"),
            *("--tag", self.name, "--file", str(self.file)),
            *(("--network", self.network) if self.network else ()),
            *(part for argument in arguments for part in ("--build-arg", argument)),
            str(self.context),
        ]


def _run_build(build: _Build, told: _Callbacks) -> None:
    """Build, and pass on the output.

    Raises
    ------
    TargetError
        With the reason.
    """
    told.command(shlex.join(["docker", *build.words]))
    answer = told.engine.stream(*build.words, on_line=told.line, variables=build.pip)
    if not answer.is_ok:
        said = (answer.out or answer.err).splitlines()
        raise explain_build(answer) or _unknown_failure(build, said)


def _unknown_failure(build: _Build, said: Sequence[str]) -> AcoupiError:
    words = [line for line in said if re.match(r"(#\d+ )?\d+\.\d+ .", line)] or [*said]
    last = next((line for line in reversed(words) if line.strip(" -")), "it printed nothing")
    return TargetError(
        f"cannot build the image {build.name}.",
        "acoupi compose build   (shows the engine's output)",
        why=f"the engine answered: {last.strip()}",
    )
