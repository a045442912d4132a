"""Addresses such as `hf:x/y?label=fine`: a name and, after a question mark, what is asked of it."""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from fewlabels.errors import UserError

HUB, TORCHVISION = "hf:", "torchvision:"  # what an address begins with
ROOT = "root"  # torchvision: the option that names a folder which holds the set already


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
        raise UserError(f"{data} names no data set")
    return name, options


def unparse(prefix: str, name: str, options: dict[str, str]) -> str:
    """The address that `parse` takes apart."""
    return f"{prefix}{name}?{urlencode(options, safe='/')}" if options else prefix + name


def absolute(data: str) -> str:
    """The address, with a folder of this machine that it names spelt out in full: it holds
    wherever it is used from."""
    prefix = data.partition(":")[0] + ":"
    name, options = parse(data)
    if prefix == HUB and Path(name).is_dir():
        return unparse(prefix, str(Path(name).absolute()), options)
    if prefix == TORCHVISION and ROOT in options:
        root = str(Path(options[ROOT]).expanduser().absolute())
        return unparse(prefix, name, options | {ROOT: root})
    return data


def need_known(data: str, options: Iterable[str], known: Iterable[str]) -> None:
    """UserError where one of `options` is not among `known`."""
    known = tuple(known)
    for name in options:
        if name not in known:
            raise UserError(f"{data}: takes no {name!r}; it takes {', '.join(known) or 'nothing'}")
