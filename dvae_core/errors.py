"""The family of errors that users can fix.

Each message is one line that states what is wrong, where, and what to do.  The command line maps the family to
exit status 2.  Any other error is a defect of this package.
"""


class DvaeError(Exception):
    """Base of all errors with a message for the user."""


class ConfigError(DvaeError, ValueError):
    """A setting or an option has a value that cannot be used."""


class DataError(DvaeError, ValueError):
    """A data set is missing, damaged or not of the expected form."""


class CheckpointError(DvaeError, ValueError):
    """A model file is missing, damaged, not a model, or of another version."""


class ResultError(DvaeError, ValueError):
    """A result file is damaged, of another schema or of another model."""


class NumericalError(DvaeError, ArithmeticError):
    """A computation produced a non-finite value; the message names the place and the step."""


class OverlapError(DvaeError, ArithmeticError):
    """Two neighbouring distributions share no mass, so no ratio of their normalisers can be estimated."""


class WorkerError(DvaeError, RuntimeError):
    """Worker processes died or can no longer be reached; finished work is kept."""
