"""Options and environment variables, read into `Answers`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from acoupi.config.answers import Answers
from acoupi.config.problems import Problem, example, show, unknown
from acoupi.config.tree import VARIABLE_PREFIX, ConfigTree, Place, nearest
from acoupi.config.values import from_text

__all__ = ["Option", "custom_places", "read_environment", "read_options"]

_BOOL_WORDS = {"true", "false", "t", "f", "yes", "no", "y", "n", "on", "off", "1", "0"}


class Option(NamedTuple):
    """One option as it was given: its name without dashes, and the texts after it."""

    name: str
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
    below = [member for member in tree.members if member.structs] if depth else []
    return [place for member in below for place in custom_places(member, depth - 1)]


def _is_custom(name: str, custom: Sequence[Place]) -> bool:
    return (
        any(
            name == ".".join(map(str, place)) or name.startswith(".".join(map(str, place)) + ".")
            for place in custom
        )
        or () in custom
    )


def read_options(answers: Answers, args: Sequence[str], custom: Sequence[Place] = ()) -> list[str]:
    """Put options over the answers; return those that models set up by themselves take.

    Problems are noted in `answers.problems`.
    """
    tree, rest, given = answers.tree, list(args), dict[Place, list[Option]]()
    nodes: dict[Place, ConfigTree] = {}
    foreign: list[str] = []
    while rest:
        token = rest.pop(0)
        if not is_option(token):
            answers.problems.append(_stray(tree, token))
            continue
        name, equals, text = token[2:].partition("=")
        if _is_custom(name, custom):
            foreign.append(token)
            while not equals and rest and not is_option(rest[0]):
                foreign.append(rest.pop(0))
            continue
        node, negated = _meant(tree, name)
        if node is None:
            answers.problems.append(_unknown_option(tree, name))
            _drop_values(rest, equals)
            continue
        texts = [text] if equals else _take(node, rest, negated=negated)
        nodes[node.place] = node
        given.setdefault(node.place, []).append(Option(name, tuple(texts), negated))
    answers.begin()
    for place, options in given.items():
        _answer(answers, nodes[place], options)
    return foreign


def _stray(tree: ConfigTree, token: str) -> Problem:
    why = "a value stands after the name of its option, and needs quotes if it has spaces"
    return Problem(tree, why, show(token), "stray")


def _drop_values(rest: list[str], equals: str) -> None:
    while not equals and rest and not is_option(rest[0]):
        rest.pop(0)


def _meant(tree: ConfigTree, name: str) -> tuple[ConfigTree | None, bool]:
    node = tree.find(name.split(".")) if name else None
    if node is None and name.startswith(("no-", "no_")):
        node = tree.find(name[3:].split("."))
        return (node, True) if node is not None and node.is_bool else (None, False)
    return node, False


def _unknown_option(tree: ConfigTree, name: str) -> Problem:
    """Return the problem of a name that leads nowhere, with the nearest that does."""
    closest = tree.closest(name.split("."))
    names = [node.name for node in tree.walk()]
    found = unknown(closest, name)
    better = found.better or nearest(name, names)
    return Problem(closest, found.why, name, "unknown", better)


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


def _answer(answers: Answers, node: ConfigTree, options: list[Option]) -> None:
    """Put what all options for one place say together."""
    problems = answers.problems
    if node.is_bool:
        texts = [(*option.texts, "false" if option.negated else "true")[0] for option in options]
    elif not all(option.texts for option in options):
        why = "an option that is not a yes or no is followed by its value"
        problems.append(Problem(node, why, kind="empty", better=example(node)))
        return
    else:
        texts = [text for option in options for text in option.texts]
    if node.is_list:
        answers.put(node, _items(node, texts, problems), "")
    elif node.slots and len(texts) > 1:
        answers.put(node, _slots(node, texts, problems), "")
    elif len(set(texts)) > 1:
        why = f"it is given {len(texts)} times, with different values"
        problems.append(Problem(node, why, better=None if node.is_secret else show(texts[-1])))
    else:
        answers.put(node, from_text(node, texts[0], problems), "")


def _items(node: ConfigTree, texts: list[str], problems: list[Problem]) -> Any:
    """Return the items of a list: each option one, or a JSON list of them."""
    item = node.child(0)
    assert item is not None, "a list has items"
    nested = bool(item.item_types or item.slots)
    if len(texts) == 1:
        whole = from_text(node, texts[0], problems)
        flat = isinstance(whole, list) and not all(isinstance(one, list) for one in whole)
        is_json = texts[0].lstrip().startswith("[")
        return [whole] if nested and flat and is_json else whole
    items: list[Any] = []
    for text in texts:
        one = from_text(item if nested else node, text, problems)
        items += one if isinstance(one, list) and not nested else [one]
    return items


def _slots(node: ConfigTree, texts: list[str], problems: list[Problem]) -> list[Any]:
    items = [(node.child(i), text) for i, text in enumerate(texts)]
    return [from_text(child, text, problems) if child else text for child, text in items]


# ---- environment


def read_environment(
    answers: Answers, environ: Mapping[str, str], custom: Sequence[Place] = ()
) -> list[str]:
    """Put ``ACOUPI_CONFIG__...`` over the answers; an empty variable counts as none.

    Returns options for models that set themselves up.
    """
    tree = answers.tree
    foreign: list[str] = []
    answers.begin()
    for variable in sorted(environ, key=_in_order):
        if not variable.upper().startswith(VARIABLE_PREFIX) or not environ[variable]:
            continue
        names = variable[len(VARIABLE_PREFIX) :].split("__")
        lowered = ".".join(names).lower()
        if _is_custom(lowered, custom):
            foreign += [f"--{lowered}", environ[variable]]
            continue
        node = tree.find(names, fold=True)
        if node is None or not node.place:
            answers.problems.append(_unknown_variable(tree, variable, names))
            continue
        answers.origins[node.place] = variable
        value = from_text(node, environ[variable], answers.problems, commas=True)
        answers.put(node, value, variable)
    return foreign


def _in_order(variable: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdecimal() else -1, part) for part in variable.split("__")]


def _unknown_variable(tree: ConfigTree, variable: str, names: Sequence[str]) -> Problem:
    name = ".".join(names).lower()
    found = _unknown_option(tree, name)
    better = tree.find(found.better.split(".")) if found.better else None
    return Problem(
        tree.closest(names, fold=True),
        found.why,
        variable,
        "unknown",
        better.variable if better else None,
    )
