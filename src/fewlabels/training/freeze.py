"""Which parts of a model learn: freezing, and gradual unfreezing from the head down.

What is frozen gets no gradient, and its batch norms stay in eval mode. So do all batch norms of
pretrained weights unless told otherwise: with the statistics of small batches they feed the filters
behind them another distribution than these were learnt with. Measured on development images of
CIFAR-10, 25 labels a class, MobileNetV2 at 96 px, 120 steps of fine-tuning from a linear probe that
has 54.7 %: norms learnt 46.3 %, kept 60.0 %.

Gradual unfreezing: Howard and Ruder 2018 (ULMFiT), section 3.3; theirs goes by epochs, ours in
equal parts of the budget.
"""

import math
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fewlabels.errors import UserError
from fewlabels.models.structure import Unit, stages, units

ALL, FIXRES = "backbone", "fixres"


@dataclass(frozen=True)
class Freeze:
    """What does not learn: `none`, `backbone` (all but the head), `fixres` (all but the head and
    the last batch norm), or a number of stages from the input on; `unfreeze` is the part of
    training in which the rest is thawed, 0 for at once; `norms`: whether all batch norms keep their
    statistics."""

    how: str = "none"
    unfreeze: float = 0.0
    norms: bool = False

    def __post_init__(self) -> None:
        """UserError for what cannot be."""
        if self.how not in ("none", ALL, FIXRES) and not self.how.isdecimal():
            raise UserError(
                f"--freeze {self.how}: must be none, {ALL}, {FIXRES}, or a number of stages"
            )
        if not 0 <= self.unfreeze <= 1:
            raise UserError(f"--unfreeze {self.unfreeze}: must be between 0 and 1")
        if self.how in (ALL, FIXRES) and self.unfreeze:
            raise UserError(f"--unfreeze has no effect with --freeze {self.how}")


class Freezer:
    """Holds the frozen parts of one model still, step by step.

    UserError when the model has fewer stages than are to be frozen.
    """

    def __init__(self, model: nn.Module, freeze: Freeze, size: int) -> None:
        self.unfreeze = freeze.unfreeze
        self._model = model
        self._parameters = dict(model.named_parameters())
        self._groups: tuple[tuple[Unit, ...], ...] = ()  # from the input on
        self._for_good = 0  # of the groups
        self._frozen = -1  # how many are, now
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._apart = norms[-1:] if freeze.how == FIXRES else []  # learns among what does not
        self._norms = [m for m in norms if freeze.norms and m not in self._apart]
        if freeze.how in (ALL, FIXRES):
            self._groups, self._for_good = (units(model)[:-1],), 1
        elif freeze.how != "none" or freeze.unfreeze:
            self._groups = stages(model, size)
            self._for_good = 0 if freeze.how == "none" else int(freeze.how)
            if self._for_good > len(self._groups):
                raise UserError(
                    f"--freeze {freeze.how}: the model has {len(self._groups)} stages at {size} px"
                )
            if freeze.unfreeze and self._for_good == len(self._groups):
                raise UserError(f"--unfreeze {freeze.unfreeze}: there is no stage to thaw")

    def frozen(self, progress: float) -> int:
        """How many stages are: where it is another number than before, all is to be done anew."""
        if progress >= self.unfreeze:
            return self._for_good
        thawing = len(self._groups) - self._for_good
        return self._for_good + math.ceil(thawing * (1 - progress / self.unfreeze))

    def __call__(self, progress: float) -> None:
        """To be called after `model.train()`."""
        frozen = self.frozen(progress)
        for number, group in enumerate(self._groups):
            for unit in group:
                if number < frozen:
                    for path in (unit.path, *unit.norms):
                        self._model.get_submodule(path).eval()
                if frozen != self._frozen:
                    for name in unit.parameters:
                        self._parameters[name].requires_grad_(number >= frozen)
        for norm in self._apart:
            norm.train()
            norm.requires_grad_(True)
        self._frozen = frozen
        for norm in self._norms:
            norm.eval()
