"""What a task logs of something that did not work, where it goes on with the rest."""

__all__ = ["FAILED"]

FAILED = {"is_failure": True}
"""``extra`` of such a record below ERROR: who runs a task by hand is told, and that it failed."""
