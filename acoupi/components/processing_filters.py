"""Whether to run a model on a recording; all filters of a task must accept it."""

from acoupi import data
from acoupi.components.types import ProcessingFilter

__all__ = ["TrivialProcessingFilter"]


class TrivialProcessingFilter(ProcessingFilter):
    """Lets every recording through."""

    def should_process_recording(self, recording: data.Recording) -> bool:
        """Return True."""
        return True
