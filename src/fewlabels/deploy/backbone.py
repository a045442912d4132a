"""`export --format backbone`: a run's weights as timm and torchvision name and load them.

model.safetensors   the weights under the library's own names, with the head
config.json         timm's: what builds the model, its classes, its preprocessing
about.json          the same for torchvision, which has no such file of its own
README.md           the code that loads it: alone, in a detector, in a segmentation net

Nothing is written that does not work: the library builds the model anew from the files, and it has
to answer as the run's own does.
"""

import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from fewlabels.deploy import artefact, library, loading
from fewlabels.deploy.library import Foreign
from fewlabels.errors import UserError, one_line
from fewlabels.models import structure

README = "README.md"
FILES = {library.WEIGHTS, library.CONFIG, library.ABOUT, README}  # the names an export may have
TOLERANCE = 1e-4  # the same sums in another order


def write_backbone(run: Path, out: Path) -> list[str]:
    """Writes the backbone of a run, finished or not, or of an artefact, into the folder `out`.

    `out` is absent, empty, or an earlier export. Returns what there is to say of it, line by line.
    UserError when `run` holds no model that timm or torchvision builds, or `out` cannot be written.
    """
    model = library.foreign(artefact.read(run), run)
    _must_be_free(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as fresh:
            names, lines = _write(model, Path(fresh))
            out.mkdir(exist_ok=True)
            for name in sorted(FILES):  # an earlier export may have had others
                (out / name).unlink(missing_ok=True)
            for name in names:
                shutil.move(Path(fresh) / name, out / name)
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise UserError(f"-o {out}: cannot be written ({reason})") from error
    return [f"{out}: {', '.join(names)}", *lines]


def _must_be_free(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"-o {out}: is a file; name a folder")
    inside = sorted(path.name for path in out.iterdir()) if out.exists() else []
    if other := next((name for name in inside if name not in FILES), None):
        raise UserError(f"-o {out}: holds other files ({other}); name a new folder")


def _write(model: Foreign, folder: Path) -> tuple[list[str], list[str]]:
    """The names of the files written, and the lines about them."""
    own, size = model.saved.built.model.eval(), model.saved.preprocess.size
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = own(x) if model.whole else structure.embed(own, x)
    modules = dict(own.named_modules())  # of the head, too, that saving may leave out
    names = library.save(model, folder)
    theirs = library.load(model, folder)
    strides = loading.strides(modules, theirs)
    (folder / README).write_text(loading.readme(model, theirs, strides), encoding="utf-8")
    loading.undo(theirs, strides)
    error = _difference(model, theirs, x, expected)
    if error > TOLERANCE:
        raise UserError(
            f"--format backbone: {model.library} builds another {model.name} than this run has "
            f"(outputs differ by {error:.2g}); nothing was written"
        )
    classes = f"{len(model.saved.classes)} classes" if model.whole else "without its head"
    lines = [
        f"{model.library}'s {model.name}, {classes}, {size} px: built from these files it answers "
        "as the run does"
    ]
    if strides:
        lines.append(
            f"but for what weights cannot tell: trained {model.saved.built.stem}; the README's "
            "code takes them out"
        )
    return [*names, README], lines


def _difference(model: Foreign, theirs: nn.Module, x: Tensor, expected: Tensor) -> float:
    """The largest of any output, as a part of the largest output."""
    with torch.inference_mode():
        # timm builds a model without a head; torchvision always has one
        headless = not model.whole and model.library == "torchvision"
        said = structure.embed(theirs.eval(), x) if headless else theirs.eval()(x)
    if said.shape != expected.shape:
        return float("inf")
    return float((said - expected).abs().max() / expected.abs().max().clamp_min(1e-6))
