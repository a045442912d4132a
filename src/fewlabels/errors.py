"""The one exception for bad input."""


class UserError(Exception):
    """Bad input or wrong use, told in one line: what, where, what to do. The exit code is 2."""


def one_line(error: BaseException) -> str:
    """An exception's message as one line of bearable length; its kind where it has no message."""
    return " ".join(str(error).split())[:200] or type(error).__name__
