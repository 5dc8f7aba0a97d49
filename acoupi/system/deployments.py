"""The current deployment, in ``config/deployment.json``."""

import shlex

from pydantic import ValidationError

from acoupi import data
from acoupi.commit import changing, read_whole
from acoupi.errors import DeploymentError
from acoupi.stack.settings import Settings
from acoupi.writing import disk_error, write_atomic

__all__ = [
    "end_deployment",
    "get_current_deployment",
    "new_deployment",
    "read_deployment",
    "remove_deployment",
    "start_deployment",
    "write_deployment",
]


def new_deployment(
    name: str, latitude: float | None = None, longitude: float | None = None
) -> data.Deployment:
    """Return a deployment that starts now.

    Raises
    ------
    DeploymentError
        If it has no name, or its latitude or longitude is not possible.
    """
    if not name.strip():
        raise DeploymentError(
            "cannot start a deployment without a name.",
            "acoupi deployment start --name my-site",
            why="the name identifies its recordings.",
        )
    try:
        return data.Deployment(
            name=name, latitude=latitude, longitude=longitude, started_on=data.utc_now()
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise DeploymentError(
            f'cannot start the deployment "{name}".',
            "acoupi deployment start --latitude 51.5 --longitude -0.1",
            why=f"{reason}.",
        ) from error


def read_deployment(settings: Settings) -> data.Deployment | None:
    """Return the last deployment, ended or not; None if there was none.

    Times without a zone are in UTC.

    Raises
    ------
    DeploymentError
        If the file cannot be read.
    """
    path = settings.deployment_file
    try:
        return data.Deployment.model_validate_json(read_whole(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_error("read", path, error) from error
    except ValueError as error:
        raise DeploymentError(
            f'cannot read "{path}".',
            f"mv {shlex.quote(str(path))} {shlex.quote(str(path))}.broken"
            " && acoupi deployment start",
            why=f"it does not hold a deployment: {str(error).splitlines()[0]}.",
        ) from error


def write_deployment(settings: Settings, deployment: data.Deployment) -> None:
    """Write a deployment; a power cut leaves either the old or the new one."""
    write_atomic(settings.deployment_file, deployment.model_dump_json(indent=2) + "\n")


def remove_deployment(settings: Settings) -> None:
    """Remove the deployment, as if it had never been started."""
    try:
        settings.deployment_file.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error("remove", settings.deployment_file, error) from error


def get_current_deployment(settings: Settings) -> data.Deployment:
    """Return the deployment that is running.

    Raises
    ------
    DeploymentError
        If there is none, or it has ended.
    """
    deployment = read_deployment(settings)
    if deployment is None:
        raise DeploymentError(
            "there is no deployment.",
            "acoupi deployment start --name my-site",
            why="none has been started.",
        )
    if deployment.ended_on is not None:
        raise DeploymentError(
            "there is no deployment.",
            "acoupi deployment start --name my-site",
            why=f'the last one, "{deployment.name}", ended on '
            f"{deployment.ended_on:%Y-%m-%d %H:%M:%S %Z}.",
        )
    return deployment


def start_deployment(
    settings: Settings,
    name: str,
    latitude: float | None = None,
    longitude: float | None = None,
) -> data.Deployment:
    """Record the start of a deployment; starts no services.

    Parameters
    ----------
    settings
        Of the home.
    name
        Any text.
    latitude, longitude
        Degrees, WGS 84.

    Raises
    ------
    DeploymentError
        If one is running already, or its latitude or longitude is not possible.
    """
    deployment = new_deployment(name, latitude, longitude)
    with changing(settings.program_config_file.parent, "acoupi deployment start"):
        old = read_deployment(settings)
        if old is not None and old.ended_on is None:
            raise DeploymentError(
                f'cannot start the deployment "{name}".',
                "acoupi deployment stop",
                why=f'the deployment "{old.name}" has been running since '
                f"{old.started_on:%Y-%m-%d %H:%M:%S %Z}.",
            )
        write_deployment(settings, deployment)
    return deployment


def end_deployment(settings: Settings) -> data.Deployment:
    """Record the end of the current deployment and return it; stops no services.

    Raises
    ------
    DeploymentError
        If none is running.
    """
    with changing(settings.program_config_file.parent, "acoupi deployment stop"):
        deployment = get_current_deployment(settings)
        ended = deployment.model_copy(update={"ended_on": data.utc_now()})
        write_deployment(settings, ended)
    return ended
