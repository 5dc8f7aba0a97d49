"""Components that fail when a test says so."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Faulty:
    """Does what a component does, except where one of its methods is made to fail."""

    def __init__(self, component: Any) -> None:
        self._component = component

    def __getattr__(self, name: str) -> Any:
        return getattr(self._component, name)

    @contextmanager
    def failing(self, method: str, error: BaseException, *, after: bool = False) -> Iterator[None]:
        """Let a method raise an error for a while, before or after it has done its work."""
        real = getattr(self._component, method)

        def fail(*args: Any, **kwargs: Any) -> None:
            if after:
                real(*args, **kwargs)
            raise error

        with self.replaced(method, fail):
            yield

    @contextmanager
    def replaced(self, method: str, other: Callable[..., Any]) -> Iterator[None]:
        """Let something else be called for a while."""
        setattr(self, method, other)
        try:
            yield
        finally:
            delattr(self, method)
