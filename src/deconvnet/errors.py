"""The errors that a user can meet. Each message is one sentence that says what is wrong and what to do about it."""


class DeconvnetError(Exception):
    """Something could not be done: a file, a network or a machine is not what it should be."""


class UsageError(DeconvnetError):
    """Something was asked for that does not exist or does not fit together, such as a layer that the network lacks.

    On the command line the exit code is then 2; for any other `DeconvnetError` it is 1.
    """
