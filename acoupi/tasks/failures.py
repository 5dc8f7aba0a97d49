"""Log records of partial failures, after which a task continues."""

__all__ = ["FAILED"]

FAILED = {"is_failure": True}
"""``extra`` of such a record below ERROR: it is shown, as a failure, if a task is run by hand."""
