"""The one family of errors that this project raises on purpose.

Every message is one line: what is wrong, where, and what to do. The command line maps the family to exit
status 2; anything else is a defect of ours.
"""


class DvaeError(Exception):
    """Base of all errors that carry a message for the user."""


class ConfigError(DvaeError, ValueError):
    """A setting or an option has a value that cannot be used."""


class DataError(DvaeError, ValueError):
    """A data set is missing, damaged or not of the expected form."""


class CheckpointError(DvaeError, ValueError):
    """A model file is missing, damaged, of another version or not a model."""


class ResultError(DvaeError, ValueError):
    """A result file is damaged, of another schema or of another model."""


class NumericalError(DvaeError, ArithmeticError):
    """A computation left the finite numbers; the message names the place and the step."""


class OverlapError(DvaeError, ArithmeticError):
    """Two neighbouring distributions share no mass, so no ratio of their normalisers can be estimated."""


class WorkerError(DvaeError, RuntimeError):
    """Processes that share the work died, or cannot be reached any more; what was done before is kept."""
