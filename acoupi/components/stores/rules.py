"""Rules of every metadata store: which states follow each other, and what is refused."""

from collections.abc import Iterable
from uuid import UUID

from acoupi import data
from acoupi.errors import MetadataStoreError, UnknownRecordingError

__all__ = [
    "begun",
    "check_end",
    "check_limit",
    "ended",
    "shared_path",
    "unknown_deployment",
    "unknown_recordings",
]


def begun(
    stored: data.Analysis | None,
    recording_id: UUID,
    name_model: str,
    *,
    was_interrupted: bool = False,
) -> data.Analysis:
    """Return the analysis when a model is about to run.

    The attempt is counted now, so that one that kills the process counts as
    well. It takes the place of one that was interrupted from outside. A final
    analysis stays as it is.
    """
    if stored is not None and stored.state.is_final:
        return stored
    return data.Analysis(
        recording_id=recording_id,
        name_model=name_model,
        state=data.AnalysisState.RUNNING,
        attempts=(stored.attempts if stored else 0) + (not was_interrupted),
        error=stored.error if stored else None,
        updated_on=data.utc_now(),
    )


def ended(stored: data.Analysis | None, reported: data.Analysis) -> data.Analysis:
    """Return the analysis after its end is reported.

    A report may be late, from a model that hung while another attempt was
    made. So a finished analysis stays done, and a final state never becomes one
    that is not final.

    Raises
    ------
    ValueError
        If a model says that it was left out: that is not for it to say.
    """
    if reported.state is data.AnalysisState.LEFT_OUT:
        raise ValueError("an analysis cannot end as left out")
    if stored is not None:
        is_late = stored.state.is_final and not reported.state.is_final
        if is_late or stored.state is data.AnalysisState.DONE:
            return stored
    return reported.model_copy(
        update={
            "attempts": max(reported.attempts, stored.attempts if stored else 0),
            "updated_on": data.utc_now(),
        }
    )


def unknown_recordings(
    action: str, recordings: Iterable[tuple[UUID, object]]
) -> UnknownRecordingError:
    """Return the error for recordings that must be stored first.

    Parameters
    ----------
    action
        What was attempted, to follow "cannot".
    recordings
        Id and path of each.
    """
    named = "; ".join(f'{id_} ("{path}")' if path else str(id_) for id_, path in recordings)
    return UnknownRecordingError(
        f"cannot {action}: the recording is not in the metadata store: {named}.",
        "store.store_recording(recording) first",
        why="outputs and analyses refer to the row of their recording.",
    )


def unknown_deployment(deployment: data.Deployment) -> MetadataStoreError:
    """Return the error for a deployment that must be stored first."""
    return MetadataStoreError(
        f'cannot update the deployment "{deployment.name}": it is not in the metadata store.',
        "store.store_deployment(deployment) first",
        why=f"no deployment has the id {deployment.id}.",
    )


def shared_path(id_: UUID, owner: UUID, path: object) -> MetadataStoreError:
    """Return the error for two recordings in one file."""
    return MetadataStoreError(
        f"cannot store the recording {id_}: its file belongs to another recording.",
        "give each recording a file of its own; a name with the recording's id is safe",
        why=f'"{path!s}" belongs to the recording {owner}.',
    )


def check_end(state: data.RecordingState) -> None:
    """Refuse a state in which the file still exists."""
    if state not in (data.RecordingState.DELETED, data.RecordingState.LOST):
        raise ValueError(f"a recording ends as deleted or lost, not as {state.value}")


def check_limit(limit: int | None) -> None:
    """Refuse a limit below 0."""
    if limit is not None and limit < 0:
        raise ValueError(f"limit must be 0 or more, not {limit}")
