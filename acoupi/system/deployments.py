"""The current deployment, in ``config/deployment.json``."""

from pydantic import ValidationError

from acoupi import data
from acoupi.clock import shown_in_utc
from acoupi.commit import changing, commit_files
from acoupi.deployed import HISTORY, Deployed, files_of, read_deployed, read_last, standby_file
from acoupi.errors import DeploymentError
from acoupi.stack.settings import Settings

__all__ = [
    "end_deployment",
    "get_current_deployment",
    "new_deployment",
    "read_deployment",
    "start_deployment",
    "undo_deployment",
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
            "acoupi start my-site",
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
            "acoupi start my-site --at 51.54,-0.02",
            why=f"{reason}.",
        ) from error


def read_deployment(settings: Settings) -> data.Deployment | None:
    """Return the last deployment, ended or not; None if there was none.

    Raises
    ------
    DeploymentError
        If the file cannot be read.
    """
    return read_last(settings.deployment_file)


def write_deployment(settings: Settings, deployment: data.Deployment) -> None:
    """Write a deployment, and keep those before it in the history.

    A power cut leaves both files as they were, or both as they will be. To be
    called while changing the home.
    """
    path = settings.deployment_file
    deployed = read_deployed(path)
    before = tuple(one for one in deployed.every if one.id != deployment.id)
    begins = [standby_file(path)] if deployment.ended_on is None else []
    commit_files(path.parent, files_of(path, Deployed(deployment, before)), remove=begins)


def undo_deployment(settings: Settings, deployment: data.Deployment) -> None:
    """Remove a deployment that could not start; others are not touched."""
    path = settings.deployment_file
    with changing(path.parent, "acoupi deployment start"):
        deployed = read_deployed(path)
        if deployed.last is None or deployed.last.id != deployment.id:
            return
        if deployed.before:
            *before, last = deployed.before
            commit_files(path.parent, files_of(path, Deployed(last, tuple(before))))
        else:
            commit_files(path.parent, {}, remove=[path, path.with_name(HISTORY)])


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
            "acoupi start my-site",
            why="none has been started.",
        )
    if deployment.ended_on is not None:
        raise DeploymentError(
            "there is no deployment.",
            "acoupi start my-site",
            why=f'the last one, "{deployment.name}", ended on '
            f"{shown_in_utc(deployment.ended_on)} UTC.",
        )
    return deployment


def start_deployment(
    settings: Settings,
    name: str,
    latitude: float | None = None,
    longitude: float | None = None,
) -> data.Deployment:
    """Record the start of a deployment, without starting services.

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
    new_deployment(name, latitude, longitude)  # refused before waiting for the lock
    with changing(settings.deployment_file.parent, "acoupi deployment start"):
        deployment = new_deployment(name, latitude, longitude)
        old = read_deployment(settings)
        if old is not None and old.ended_on is None:
            raise DeploymentError(
                f'cannot start the deployment "{name}".',
                "acoupi stop",
                why=f'the deployment "{old.name}" has been running since '
                f"{shown_in_utc(old.started_on)} UTC.",
            )
        try:
            write_deployment(settings, deployment)
        except BaseException:  # an interrupt may come when it is written
            undo_deployment(settings, deployment)
            raise
    return deployment


def end_deployment(settings: Settings) -> data.Deployment:
    """Record the end of the current deployment and return it, without stopping services.

    Raises
    ------
    DeploymentError
        If none is running.
    """
    with changing(settings.deployment_file.parent, "acoupi deployment stop"):
        deployment = get_current_deployment(settings)
        ended = deployment.model_copy(update={"ended_on": data.utc_now()})
        write_deployment(settings, ended)
    return ended
