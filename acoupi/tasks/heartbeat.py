"""The task that sends heartbeats."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from acoupi import data, devices
from acoupi.components import types
from acoupi.deferred import DeferredModel
from acoupi.provisioned import read_from_hub, read_provisioned
from acoupi.tasks.failures import FAILED

__all__ = ["Heartbeat", "generate_heartbeat_task"]

_logger = logging.getLogger(__name__)

MetricFn = Callable[[], data.Metric | None]
HEALTHY = "OK"


class Heartbeat(DeferredModel):
    """A sensor's regular report on itself."""

    sent_on: data.AwareDatetime = Field(default_factory=data.utc_now)
    """When it was made."""
    device_id: str
    """Id of the device."""
    status: str = HEALTHY
    """``OK``, or what is wrong, including the sources of a home that sets itself up."""
    version: str | None = None
    """Version of acoupi; like what follows, left out of the JSON where it is not known."""
    program: str | None = None
    """Module of the program."""
    configuration: str | None = None
    """Digest of the settings of the program, without secrets and the places of files."""
    sections: list[str] = Field(default_factory=list)
    """Digest of each section of these settings, ``NAME=DIGEST``."""
    interval_s: float | None = None
    """Seconds between two heartbeats."""
    metrics: list[data.Metric] = Field(default_factory=list)
    """Figures of the board and of what waits; left out of the JSON when empty."""

    @model_serializer(mode="wrap")
    def _leave_out_unknown(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if value not in (None, [])}


HeartbeatSerializer = Callable[[Heartbeat], str | bytes]


def _to_json(heartbeat: Heartbeat) -> str:
    return heartbeat.model_dump_json()


def generate_heartbeat_task(
    messengers: Sequence[types.Messenger],
    metrics: Sequence[MetricFn] | None = None,
    serializer: HeartbeatSerializer = _to_json,
    logger: logging.Logger = _logger,
    *,
    status: Callable[[], str] | None = None,
    message_store: types.MessageStore | None = None,
    constant: Mapping[str, Any] | None = None,
) -> Callable[[], None]:
    """Return a task that sends a heartbeat.

    Parameters
    ----------
    messengers
        Each is tried, even if others fail; at least one.
    metrics
        Figures to report. One that is None is left out; so is one that fails,
        and then the status says so.
    serializer
        Makes the content; None: JSON.
    logger
        Receives the log lines of the task.
    status
        Returns ``OK``, or what is wrong. None: OK as long as all metrics can be read.
    message_store
        If given, the heartbeat is stored there for the task that sends messages,
        and nothing is sent here; `messengers` may then be empty.
    constant
        Fields of a `Heartbeat` that every one has: version, program, configuration,
        sections, interval_s.

    Raises
    ------
    ValueError
        If there is neither a messenger nor a message store.
    """
    if not messengers and message_store is None:
        raise ValueError("at least one messenger is needed to send heartbeats")

    def heartbeat_task() -> None:
        """Send a heartbeat through every messenger."""
        heartbeat = _take_heartbeat(metrics or (), status, logger, constant or {})
        message = data.Message(
            content=serializer(heartbeat), message_type=data.MessageType.HEARTBEAT
        )
        if message_store is not None:
            message_store.store_message(message)
            return
        for messenger in messengers:
            _send(messenger, message, logger)

    return heartbeat_task


def _take_heartbeat(
    metrics: Sequence[MetricFn],
    status: Callable[[], str] | None,
    logger: logging.Logger,
    constant: Mapping[str, Any],
) -> Heartbeat:
    faults: list[str] = []

    def attempt(function: Callable[[], Any], what: str) -> Any:
        try:
            return function()
        except Exception as error:
            logger.exception("Cannot read %s", what)
            faults.append(f"cannot read {what}: {error}")
            return None

    said = attempt(status, "the status") if status is not None else HEALTHY
    values = [attempt(metric, _name_of(metric)) for metric in metrics]
    device_id = attempt(devices.get_device_id, "the device id")
    if said is not None and said != HEALTHY:
        faults.insert(0, said)
    for read in (read_from_hub, read_provisioned):
        state = attempt(read, "the state of the configuration")
        if state is not None and (trouble := state.trouble()):
            faults.insert(0, trouble)
    return Heartbeat(
        device_id=device_id or "",
        status="; ".join(faults) or HEALTHY,
        metrics=[value for value in values if value is not None],
        **constant,
    )


def _name_of(metric: MetricFn) -> str:
    return f"the metric {getattr(metric, '__name__', type(metric).__name__)}"


def _send(messenger: types.Messenger, message: data.Message, logger: logging.Logger) -> None:
    name = getattr(messenger, "name", type(messenger).__name__)
    try:
        response = messenger.send_message(message)
    except Exception as error:  # noqa: BLE001 - one line says it; the others are tried
        why = f"{type(error).__name__}: {error}"
        logger.warning("No heartbeat through %s: %s", name, why, extra=FAILED)
        return
    if response.status is not data.ResponseStatus.SUCCESS:
        status, content = response.status.name, response.content
        logger.warning("No heartbeat through %s: %s, %s", name, status, content, extra=FAILED)
