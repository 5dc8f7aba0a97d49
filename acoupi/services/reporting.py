"""The task that reports changes on the sensor to a hub."""

import datetime
import logging
from collections.abc import Callable, Sequence
from typing import Any

from acoupi import data
from acoupi.components.messengers.hub import HubMessenger, hub_words, is_asked_again, packed
from acoupi.components.stores.reporting import Reporter
from acoupi.components.stores.unreported import Change, HubStanding, Unreported
from acoupi.components.stores.unsent import UnsentSound
from acoupi.errors import AcoupiError, MessageSendError
from acoupi.reports import Report, ReportSequence, SettingsReport
from acoupi.services.resting import MOST_REFUSED, Rest, pause
from acoupi.services.sounding import SoundSender
from acoupi.space import HubAudio
from acoupi.tasks.failures import FAILED
from acoupi.tasks.messaging import generate_send_messages_task

__all__ = ["generate_hub_task"]

_logger = logging.getLogger(__name__)

BATCH = 200
"""Most changes in a report."""
LONGEST_PASS = 60.0
"""Seconds after which no further report is started."""
SIGN_OF_LIFE = datetime.timedelta(hours=1)
"""Without changes, an empty report shows this often that the sensor is alive."""


def generate_hub_task(
    unreported: Unreported,
    reporter: Reporter,
    messenger: HubMessenger,
    message_store: Any = None,
    logger: logging.Logger = _logger,
    *,
    sound: UnsentSound | None = None,
    audio: HubAudio = "none",
    find_settings: Callable[[], SettingsReport] | None = None,
) -> Callable[[], None]:
    """Return a task that sends a hub its messages, then reports what has changed.

    A change is forgotten only when the hub has acknowledged it, so a run may stop at any moment.
    If the contents of a report are refused, its parts are sent one by one, and the refused part
    then waits behind all others. If the hub does not answer, or refuses the sensor, the task pauses
    for a time that doubles.

    Parameters
    ----------
    unreported, reporter
        Both of the same metadata store.
    message_store
        Its messages are sent, and its daily budget applies; None: there is none.
    logger
        Receives the log lines of the task.
    sound
        Sound of the same metadata store; None: no sound is sent.
    audio
        Which recordings' sound is sent.
    find_settings
        Returns the settings in force, which are reported when they change; None: never.
    """
    acknowledged: SettingsReport | None = None
    send_messages: Callable[[], None] | None = None
    if message_store is not None:
        message_store.more_messengers = [messenger.name]
        send_messages = generate_send_messages_task(message_store, [messenger], logger=logger)

    rest = Rest()
    sender = None if sound is None else SoundSender(sound, messenger, message_store, logger)

    def hub_task() -> None:
        """Report to the hub what it does not have, then send it sound."""
        nonlocal acknowledged
        if send_messages is not None:
            send_messages()
        standing = unreported.start(messenger.name)
        owed = None if sender is None else sender.unsent.start(messenger.name, audio)
        if rest.lasts(standing.rests_until, data.utc_now()):
            words = "%s: no further attempt before %s: %s"
            values = messenger.name, standing.rests_until, standing.trouble
            logger.debug(words, *values, extra=FAILED)
            return
        reports = _Pass(unreported, reporter, messenger, message_store, logger)
        found = None if find_settings is None else _found(find_settings, logger)
        if found is not None and found != acknowledged and reports.tell(found):
            acknowledged = found
        reports.run(standing)
        if sender is not None and owed is not None and audio != "none" and reports.is_done:
            sender.send(owed)

    return hub_task


def _found(find: Callable[[], SettingsReport], logger: logging.Logger) -> SettingsReport | None:
    try:
        return find()
    except (AcoupiError, OSError) as error:
        logger.warning(
            "The settings in force could not be reported to the hub: %s", error, extra=FAILED
        )
        return None


class _Pass:
    def __init__(
        self,
        unreported: Unreported,
        reporter: Reporter,
        messenger: HubMessenger,
        message_store: Any,
        logger: logging.Logger,
    ) -> None:
        self.unreported, self.reporter, self.messenger = unreported, reporter, messenger
        self.message_store, self.logger = message_store, logger
        self.size = BATCH
        self.refused = 0
        self.trouble: str | None = None
        self.rest = 0.0
        """Seconds that the hub asks for."""
        self.is_over = False
        self.is_done = False
        """Whether the hub answers, and has everything that it accepts."""
        self.reported = 0

    def tell(self, settings: SettingsReport) -> bool:
        """Report the settings that are in force; return whether the hub has them."""
        report = packed(Report(settings=settings))
        if self.message_store and not self.message_store.spend(self.messenger.name, len(report)):
            return False
        try:
            answer = self.messenger.send_packed(report)
        except MessageSendError:  # logged by the following report
            return False
        return answer.status is data.ResponseStatus.SUCCESS

    def run(self, standing: HubStanding) -> None:
        end = data.monotonic() + LONGEST_PASS
        known = standing.acknowledged_on
        must_show = known is None or not data.utc_now() - SIGN_OF_LIFE < known <= data.utc_now()
        while not self.is_over and data.monotonic() < end:
            changes = self.unreported.next(self.size)
            if not changes and not (must_show and not self.reported):
                self.is_done = True
                break
            self._report(changes)
            self.is_over |= not changes
            self.is_done |= not changes and self.reported > 0
        self._settle(standing)

    def _settle(self, standing: HubStanding) -> None:
        if self.trouble is None:
            if standing.trouble is not None and self.reported:
                self.unreported.settle(None)
                self.logger.info("%s accepts reports again", self.messenger.name)
            return
        self.unreported.settle(self.trouble, pause(standing.failures, self.rest))
        level = logging.WARNING if self.trouble != standing.trouble else logging.DEBUG
        words = "%s: %s. Nothing is lost: acoupi sends it again"
        self.logger.log(level, words, self.messenger.name, self.trouble, extra=FAILED)

    def _report(self, changes: Sequence[Change]) -> None:
        stamp = self.unreported.stamp()
        report = packed(self.reporter.report(changes, stamp))
        token = self.messenger.token_sha256
        sequence = ReportSequence(data.to_microseconds(stamp), self.unreported.mark(token))
        store = self.message_store
        if store is not None and not store.spend(self.messenger.name, len(report)):
            self.is_over = True  # not today
            return
        try:
            answer = self.messenger.send_packed(report, sequence)
        except MessageSendError as error:
            self._end(f"{error.message.rstrip('.')} ({error.why})")
            return
        if answer.status is data.ResponseStatus.SUCCESS:
            self.unreported.acknowledge(changes)
            self.reported += 1
            is_asked = is_asked_again(answer)
            if is_asked:
                self._start_over()
                return
            if is_asked is not None:
                self.unreported.set_mark(token, stamp)
            self.size = min(BATCH, 2 * self.size)
        elif answer.status is not data.ResponseStatus.ERROR or answer.is_access_refused:
            self._end(hub_words(answer), answer.retry_after or 0)
        elif len(changes) > 1:
            self.size = len(changes) // 2
        else:
            self._refuse(changes, hub_words(answer))

    def _start_over(self) -> None:
        self.unreported.start_over()
        self.is_over = True
        self.logger.warning(
            "%s does not know any more what it acknowledged: it was put back from a copy. "
            "All is reported again",
            self.messenger.name,
        )

    def _refuse(self, changes: Sequence[Change], words: str) -> None:
        for change in changes:
            self.unreported.postpone(change)
        self.trouble, self.refused = words, self.refused + 1
        self.is_over = self.is_done = self.refused == MOST_REFUSED or not changes

    def _end(self, words: str, rest: float = 0.0) -> None:
        self.trouble, self.rest, self.is_over = words, rest, True
