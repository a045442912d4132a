"""Makes `import torchvision` work beside a torch it was not compiled for.

PyPI's torchvision for Linux x86-64 is a CUDA build. Beside a CPU-only torch its compiled operators
cannot be loaded, and the import fails with "operator torchvision::nms does not exist", because the
package describes operators to torch that nobody declared. Declared, without an implementation, they
let everything else work: models, transforms, and timm on top of it. Where the operators exist this
does nothing.

Import torchvision and timm only after `repair()`.
"""

import importlib
import re
import sys
from functools import cache

import torch

# Held for the life of the process: a library that is collected takes its declarations along.
_declared: list[torch.library.Library] = []


@cache
def repair() -> tuple[str, ...]:
    """Imports torchvision, declaring what it misses; returns the names of what was declared."""
    names: list[str] = []
    while True:
        try:
            importlib.import_module("torchvision")
            return tuple(names)
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None or missing[1] in names:
                raise
            names.append(missing[1])
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            library.define(f"{missing[1]}(...) -> Tensor")  # type: ignore[no-untyped-call]
            _declared.append(library)
            for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[module]
