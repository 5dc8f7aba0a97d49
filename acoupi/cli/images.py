"""Building an image with its progress on the terminal."""

from acoupi.cli.output import done, say
from acoupi.cli.terminal import echo

__all__ = ["build_image_of"]


def build_image_of(packages: list[str]) -> str:
    """Build an image with these packages in it, showing what the engine says; return its name."""
    from acoupi.bundles.images import build_image

    name = build_image(packages, on_line=lambda line: say(line, err=True), echo=echo)
    done(f"The image {name} is built.")
    return name
