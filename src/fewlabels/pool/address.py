"""Addresses such as `hf:x/y?label=fine`: a name and, after a question mark, what is asked of it."""

from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode

from fewlabels.errors import UserError


def parse(data: str) -> tuple[str, dict[str, str]]:
    """ "hf:x/y?label=fine&split=test" as ("x/y", {"label": "fine", "split": "test"}).

    Raises UserError for what does not read so.
    """
    name, _, query = data.partition(":")[2].partition("?")
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise UserError(f"{data}: after ? comes name=value, several joined by &") from None
    if not name:
        raise UserError(f"{data}: names no data set")
    return name, options


def unparse(prefix: str, name: str, options: dict[str, str]) -> str:
    """The address that `parse` takes apart."""
    return f"{prefix}{name}?{urlencode(options, safe='/')}" if options else prefix + name


def need_known(data: str, options: Iterable[str], known: Iterable[str]) -> None:
    """UserError where one of `options` is not among `known`."""
    known = tuple(known)
    for name in options:
        if name not in known:
            raise UserError(f"{data}: takes no {name!r}; it takes {', '.join(known) or 'nothing'}")
