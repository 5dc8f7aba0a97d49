"""Options and environment variables, read into `Answers`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from acoupi.config.answers import Answers
from acoupi.config.names import Place
from acoupi.config.problems import OPTION, Origin, Problem, example, show, unknown
from acoupi.config.tree import ConfigTree
from acoupi.config.values import from_text

__all__ = ["custom_places", "read_environment", "read_options", "split_options"]

_BOOL_WORDS = {"true", "false", "t", "f", "yes", "no", "y", "n", "on", "off", "1", "0"}


class Option(NamedTuple):
    """One option as it was given: its setting, and the texts after it."""

    node: ConfigTree
    texts: tuple[str, ...]
    negated: bool = False


def is_option(text: str) -> bool:
    """Whether a text is the name of an option: ``-3`` and ``--3`` are values.

    Examples
    --------
    >>> [text for text in ("--a.b", "-3", "--", "--no-x=1", "x") if is_option(text)]
    ['--a.b', '--no-x=1']
    """
    return text.startswith("--") and len(text) > 2 and (text[2].isalpha() or text[2] == "_")


def custom_places(tree: ConfigTree, depth: int = 8) -> list[Place]:
    """Return the places of models that set themselves up."""
    if tree.custom_setup is not None:
        return [tree.place]
    below = [member for member in tree.members if member.is_section] if depth else []
    return [place for member in below for place in custom_places(member, depth - 1)]


def _is_custom(names: Sequence[str], custom: Sequence[Place]) -> bool:
    return any(tuple(names[: len(place)]) == tuple(map(str, place)) for place in custom)


def split_options(args: Sequence[str], sections: Iterable[str]) -> dict[str, list[str]]:
    """Group options by the names that they start with; the others are under "".

    Examples
    --------
    >>> split_options(["--a", "1", "--celery.b", "2", "3"], ["celery"])
    {'': ['--a', '1'], 'celery': ['--celery.b', '2', '3']}
    """
    found: dict[str, list[str]] = {"": [], **{name: [] for name in sections}}
    into = found[""]
    for arg in args:
        if is_option(arg):
            name = re.match(r"--(?:no[-_])?([^.=]*)", arg)
            into = found.get(name[1] if name else "", found[""])
        into.append(arg)
    return found


def read_options(answers: Answers, args: Sequence[str], custom: Sequence[Place] = ()) -> list[str]:
    """Put options over the answers; return those of models that set themselves up.

    Problems are noted in `answers.problems`.
    """
    tree, rest, given = answers.tree, list(args), dict[Place, list[Option]]()
    foreign: list[str] = []
    while rest:
        token = rest.pop(0)
        if not is_option(token):
            answers.problems.append(_stray(tree, token))
            continue
        dotted, equals, text = token[2:].partition("=")
        names = _names(tree, dotted)
        if _is_custom(names, custom):
            foreign += [token, *([] if equals else _take_all(rest))]
            continue
        node, negated = _meant(tree, names)
        if node is None or not node.place:
            answers.problems.append(unknown(tree, names))
            _take_all([] if equals else rest)
            continue
        texts = [text] if equals else _take(node, rest, negated=negated)
        given.setdefault(node.place, []).append(Option(node, tuple(texts), negated))
    for options in _in_order(tree, given):
        _answer(answers, options)
    return foreign


def _names(tree: ConfigTree, dotted: str) -> list[str]:
    """Return the names in an option, without that of its section."""
    names = dotted.split(".")
    section = tree.names.section
    if section and names[0] == section:
        return names[1:]
    if tree.find(names) is None and tree.names.option((names[-1],)) == f"--{dotted}":
        return names[-1:]
    if section and len(names) > 1 and names[0][:3] in ("no-", "no_") and names[0][3:] == section:
        return [f"no-{names[1]}", *names[2:]]
    return names


def _stray(tree: ConfigTree, token: str) -> Problem:
    why = "a value follows the name of its option, and needs quotes if it has spaces"
    return Problem(tree, why, show(token), "stray")


def _take_all(rest: list[str]) -> list[str]:
    """Take all values up to the next option."""
    taken = []
    while rest and not is_option(rest[0]):
        taken.append(rest.pop(0))
    return taken


def _meant(tree: ConfigTree, names: Sequence[str]) -> tuple[ConfigTree | None, bool]:
    node = tree.find(names)
    if node is None and names and names[0].startswith(("no-", "no_")):
        node = tree.find([names[0][3:], *names[1:]])
        return (node, True) if node is not None and node.is_bool else (None, False)
    return node, False


def _take(node: ConfigTree, rest: list[str], *, negated: bool) -> list[str]:
    """Take from the arguments the values of one option."""
    if node.is_bool:
        words = _BOOL_WORDS | ({"null", "none"} if node.is_nullable else set())
        taken = not negated and bool(rest) and rest[0].lower() in words
        return [rest.pop(0)] if taken else []
    wanted = len(node.slots) or 1
    texts: list[str] = []
    while rest and len(texts) < wanted and not is_option(rest[0]):
        texts.append(rest.pop(0))
        if texts[0].lstrip().startswith("[") or texts[0].lower() in ("null", "none"):
            break
    return texts


def _in_order(tree: ConfigTree, given: dict[Place, Any]) -> list[Any]:
    """Return the given options, with the kind of a section before its settings."""

    def rank(place: Place) -> tuple[bool, int]:
        above = tree.at(place[:-1])
        is_tag = above is not None and above.tag == place[-1]
        return not is_tag, len(place) if is_tag else 0

    return [given[place] for place in sorted(given, key=rank)]


def _answer(answers: Answers, options: list[Option]) -> None:
    """Combine all options for one place."""
    node, problems = options[0].node, answers.problems
    if node.is_bool:
        texts = [(*option.texts, "false" if option.negated else "true")[0] for option in options]
    elif not all(option.texts for option in options):
        why = "an option that is not a yes or no is followed by its value"
        problems.append(Problem(node, why, kind="empty", better=example(node)))
        return
    else:
        texts = [text for option in options for text in option.texts]
    if (node.is_list or node.slots) and (len(texts) > 1 or texts[0].lstrip()[:1] == "{"):
        answers.put(node, _items(node, texts, problems), OPTION)
    elif len(set(texts)) > 1:
        why = f"it is given {len(texts)} times, with different values"
        problems.append(Problem(node, why, better=None if node.is_secret else show(texts[-1])))
    else:
        answers.put(node, from_text(node, texts[0], problems), OPTION)


def _items(node: ConfigTree, texts: list[str], problems: list[Problem]) -> list[Any]:
    """Return the items of several texts, each an item or a JSON list of items."""
    items: list[Any] = []
    for index, text in enumerate(texts):
        item = node.child(index)
        if text.lstrip().startswith("[") or item is None:
            whole = from_text(node, text, problems)
            items += whole if isinstance(whole, list) else [whole]
        else:
            items.append(from_text(item, text, problems))
    return items


# ---- environment


def read_environment(
    answers: Answers, environ: Mapping[str, str], custom: Sequence[Place] = ()
) -> list[str]:
    """Override answers with the variables of this configuration; empty ones count as unset.

    Returns options for models that set themselves up.
    """
    tree = answers.tree
    foreign: list[str] = []
    given: dict[Place, tuple[ConfigTree, str]] = {}
    for variable in sorted(environ, key=_by_number):
        if not variable.upper().startswith(tree.names.variables) or not environ[variable]:
            continue
        names = variable[len(tree.names.variables) :].split("__")
        lowered = [name.lower() for name in names]
        if _is_custom(lowered, custom):
            foreign += [f"--{'.'.join(lowered)}", environ[variable]]
            continue
        node = tree.find(names, fold=True)
        if node is None or not node.place:
            answers.refuse(lowered, Origin("variable", variable))
        else:
            given[node.place] = node, variable
    for node, variable in _in_order(tree, given):
        answers.origins[node.place] = origin = Origin("variable", variable)
        value = from_text(node, environ[variable], answers.problems, commas=True)
        answers.put(node, value, origin)
    return foreign


def _by_number(variable: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdecimal() else -1, part) for part in variable.split("__")]
