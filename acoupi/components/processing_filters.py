"""Whether a recording is worth running a model on; all filters of a task must hold."""

from acoupi import data
from acoupi.components.types import ProcessingFilter

__all__ = ["TrivialProcessingFilter"]


class TrivialProcessingFilter(ProcessingFilter):
    """Lets every recording through."""

    def should_process_recording(self, recording: data.Recording) -> bool:
        """Return True."""
        return True
