"""The one exception for bad input."""


class UserError(Exception):
    """Bad input or wrong use, told in one line: what, where, what to do. The exit code is 2."""
