"""Errors that users see. A message is one sentence: what is wrong, then what to do about it."""


class DeconvnetError(Exception):
    """Something failed because of a file, a network or the machine."""

    #: Whether running the same command again can resume the work that this error interrupted.
    can_resume = True


class UsageError(DeconvnetError):
    """The request is wrong: it names something that does not exist, such as a layer, or does not fit together.

    The command line exits with code 2; for any other `DeconvnetError` with 1.
    """


class ForwardError(DeconvnetError):
    """A module fails on inputs of the size that its preprocessing gives."""


class DeconvnetWarning(UserWarning):
    """The pictures are right, or as right as is said, but something about a network or a file should be known."""
