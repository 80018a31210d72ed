"""Every way duanti can fail because of what it was given.

    DuantiError
    ├── DataError        a corpus or an input file cannot be used as it is           exit 1
    ├── BundleError      a model folder is missing, damaged, or of another format    exit 1
    ├── TrackingError    the tracking store does not have, or cannot take, something exit 1
    └── UsageError       the command line asks for something that makes no sense     exit 2
        └── ConfigError  a recipe has faults; all of them are in the message         exit 2

Each message is for the person at the terminal: where, what, and what to do about it. Anything else that is
raised is a mistake of duanti's own and shows its traceback.
"""

from __future__ import annotations


class DuantiError(Exception):
    """Base of all errors that are the caller's to mend.

    ``exit_code`` is what the command line ends with: 1 when data or a model is at fault, 2 when the command
    or the configuration is.
    """

    exit_code = 1


class DataError(DuantiError, ValueError):
    """A corpus or an input file cannot be used as it is. Also a ``ValueError``, as scikit-learn's users expect."""


class BundleError(DuantiError):
    """A bundle is missing, damaged, incomplete, or of a format this version does not read."""


class TrackingError(DuantiError):
    """The tracking store lacks what was asked for, or cannot be used."""


class UsageError(DuantiError):
    """The command line asks for something that makes no sense."""

    exit_code = 2


class ConfigError(UsageError):
    """A recipe or its overrides have faults; the message lists every one with its place and remedy."""
