"""The questions of a setup: going back, a summary, and answers kept for next time."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from acoupi.cli.output import print_record, say
from acoupi.cli.prompts import GoBack, ask, shown_answer, yes_or_no
from acoupi.writing import PRIVATE, RenderedFile, write_files

if TYPE_CHECKING:
    from acoupi.config import Question

__all__ = ["Interview"]

LOGIN = re.compile(r"://[^/\s]*@")


@dataclass
class Answer:
    """The answer to one question."""

    name: str
    is_section: bool
    value: Any = None
    is_default: bool = False
    is_secret: bool = False
    """A secret is not kept; it is asked for again."""

    @property
    def kept(self) -> list[Any]:
        """Return it as it is kept in a file."""
        value = None if self.is_secret or self.is_default else self.value
        return [self.name, self.is_section, value, self.is_default, self.is_secret]


class Interview:
    """Asks the questions of a setup, and remembers the answers.

    After "<" the setup runs again from the start with all answers so far but the last.

    Parameters
    ----------
    about
        What is set up, such as the home and the program; answers are only reused for the same.
    """

    def __init__(self, *about: str) -> None:
        digest = hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        self.file = Path(state) / "acoupi" / f"setup-{digest}.json"
        self.answers: list[Answer] = []
        self._next = 0

    # Asking

    def __call__(self, question: "Question") -> Any:
        """Answer one question: from the answers so far, or by asking the person.

        Raises
        ------
        GoBack
            If the setup must begin again.
        """
        known = self._known(question)
        if known is not None:
            return question.default if known.is_default else known.value
        try:
            value = ask(question)
        except GoBack:
            self._forget_last(question)
            raise
        self._note(question, value)
        return value

    def _known(self, question: "Question") -> Answer | None:
        if question.problem is not None or self._next >= len(self.answers):
            return None
        answer = self.answers[self._next]
        if not _is_to(answer, question):
            del self.answers[self._next :]  # a different answer led to other questions
            return None
        if answer.is_secret and answer.value is None and not answer.is_default:
            return None  # it was a secret, which is not kept
        self._next += 1
        return answer

    def _note(self, question: "Question", value: Any) -> None:
        is_default = value is question.default or value == question.default
        is_secret = question.secret or bool(LOGIN.search(str(value)))
        answer = Answer(question.name, question.is_section, value, is_default, is_secret)
        same = [number for number, one in enumerate(self.answers) if _is_to(one, question)]
        if same:
            self.answers[same[-1]] = answer
            self._next = max(self._next, same[-1] + 1)
        else:
            self.answers.append(answer)
            self._next = len(self.answers)

    def _forget_last(self, question: "Question") -> None:
        """Forget the answer to the previous question, and a wrong answer to this one."""
        if self.answers and _is_to(self.answers[-1], question):
            self.answers.pop()
        if self.answers:
            self.answers.pop()
        else:
            say("This is the first question.")

    def rewind(self) -> None:
        """Start again at the first question."""
        self._next = 0

    # The whole interview

    def until_confirmed(self, plan: Callable[[], Any], *about: tuple[str, str]) -> None:
        """Ask until the person accepts the summary of the answers.

        Parameters
        ----------
        plan
            Asks the questions, and changes nothing.
        about
            More lines for the summary.

        Raises
        ------
        typer.Abort
            If the summary is declined.
        """
        while True:
            self.rewind()
            try:
                plan()
                if not self.answers or self._is_confirmed(about):
                    return
            except GoBack:
                continue
            raise typer.Abort

    def _is_confirmed(self, about: tuple[tuple[str, str], ...]) -> bool:
        typer.echo()
        print_record(dict(about) | dict(self._summary()))
        try:
            return yes_or_no("Set up the sensor like this? (< goes back)", default=True)
        except GoBack:
            self.answers.pop()
            raise

    def _summary(self) -> Iterator[tuple[str, str]]:
        for one in self.answers:
            if one.is_section:
                continue
            if one.is_secret:
                yield one.name, "unchanged" if one.is_default else "set"
            else:
                yield one.name, shown_answer(one.value) or "-"

    # Keeping answers

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the answers if the person stops; offer answers kept earlier."""
        self._offer()
        try:
            yield
        except (typer.Abort, KeyboardInterrupt) as error:  # during a question, or between two
            if not isinstance(error.__cause__ or error.__context__, EOFError):
                self._keep()
            raise
        self.file.unlink(missing_ok=True)

    def _keep(self) -> None:
        if not self.answers:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = json.dumps([one.kept for one in self.answers], default=str)
        write_files({self.file: RenderedFile(text, PRIVATE)})
        typer.echo(err=True)
        say(f"{len(self.answers)} answers are kept for next time, without secrets.", err=True)

    def _offer(self) -> None:
        with suppress(OSError, ValueError, TypeError):
            found = [Answer(*one) for one in json.loads(self.file.read_text())]
            if found and yes_or_no(f"Use the {len(found)} answers of last time?", default=True):
                self.answers = found


def _is_to(answer: Answer, question: "Question") -> bool:
    return (answer.name, answer.is_section) == (question.name, question.is_section)
