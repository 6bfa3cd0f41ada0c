"""What can go wrong that is not a bug, each with the exit code a script ends with.

Anything else that escapes a script is a bug: it keeps its traceback and exits with 1.
"""


class SimpleLLMError(Exception):
    """An error a user can mend; its message says what, where and how."""

    exit_code: int


class UsageError(SimpleLLMError):
    """A command line or a prompt that cannot be served."""

    exit_code = 2


class ConfigError(UsageError):
    """Settings that are wrong, all of them in one message."""


class ArtefactError(SimpleLLMError):
    """A file of the pipeline is missing, corrupt, foreign or stale."""

    exit_code = 3


class DivergedError(SimpleLLMError):
    """The loss or a gradient stopped being a finite number."""

    exit_code = 4


class EnvironmentFault(SimpleLLMError):
    """The machine refused: disk, memory, permission or a lock."""

    exit_code = 5


class HubError(SimpleLLMError):
    """The Hugging Face Hub failed; the local result is intact."""

    exit_code = 6


class GateError(SimpleLLMError):
    """A gate or a proof that was asked for did not hold."""

    exit_code = 7


class Interrupted(SimpleLLMError):
    """A signal ended the work after everything worth keeping was saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
