"""Distillation (Hinton et al. 2015): the student learns what the teachers say of every class.

    L = α 1/B Σ_b H(y_b, p(x_b)) + (1 - α) T² 1/N Σ_n KL( q_n || softmax(s_n / T) )   (section 2)
        + β 1/NF Σ_n || g(h_n) - t_n ||²                         (FitNets, equation 3)
    q_n = mean over the teachers of softmax(z_n / T)

s and z are the logits of student and teachers on the same view of an image (Beyer et al. 2022: a
teacher that sees another crop teaches less). N are the labelled and the unlabelled images of a
batch. With α = 0 no label is looked at: any images do. T² keeps the second term's gradient at one
size for all T. With hints (β > 0) the pooled features h of the student, through a linear map g that
learns with it, are drawn to the F features t of the first teacher (Romero et al. 2015). Regression
takes the squared error to the teachers' mean, several labels an image their Bernoulli
probabilities.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.methods import sharing
from fewlabels.methods.forward import together
from fewlabels.methods.method import (
    MULTI,
    REGRESSION,
    SINGLE,
    Batch,
    Facts,
    Method,
    Networks,
    Step,
    Student,
    Views,
    logged,
)
from fewlabels.methods.targets import entropy_of_entries
from fewlabels.models.structure import blank_pass, embed, seen_by_head
from fewlabels.settings import between


@dataclass(frozen=True)
class Settings:
    alpha: float = 0.1  # α, of the labels; ours: they say less than a teacher on all images
    temperature: float = 2.0  # T, flattens what is said of the classes; ours, the paper's: 1 to 20
    hints: float = 0.0  # β, of the hints; 0 for none
    ratio: int = 4  # unlabelled images for each labelled one

    def __post_init__(self) -> None:
        between("alpha", self.alpha, 0, 1)
        between("temperature", self.temperature, 1e-3)
        between("hints", self.hints, 0)
        between("ratio", self.ratio, 1, 1000)


class Distill(Method):
    tasks: ClassVar = (SINGLE, MULTI, REGRESSION)
    taught: ClassVar = True

    def __init__(self, facts: Facts, settings: Settings) -> None:
        super().__init__(facts)
        self.settings = settings
        self.views = Views("strong", ("strong",), settings.ratio)

    def begin(self, networks: Networks) -> None:
        if not networks.teachers:
            raise UserError("distill needs a teacher: a model that was trained before")
        self._student, self._teachers = (networks.student,), networks.teachers  # not state of ours
        if self.settings.hints:
            blank = torch.zeros(2, 3, networks.size, networks.size)
            blank = blank.to(next(networks.student.parameters()).device)
            width = {}
            for net in (networks.student, networks.teachers[0]):
                with blank_pass(net):
                    width[net] = embed(net, blank).shape[1]
            self.regressor = nn.Linear(width[networks.student], width[networks.teachers[0]])  # g

    def step(self, student: Student, batch: Batch, progress: float) -> Step:
        assert batch.strong is not None
        views = (batch.x, batch.strong)
        with seen_by_head(self._student[0]) as seen:
            labelled, unlabelled = together(student, *views)
        logits = torch.cat([labelled, unlabelled])  # [N, K]
        with torch.no_grad(), seen_by_head(self._teachers[0]) as aims:
            said = [torch.cat(together(teacher, *views)) for teacher in self._teachers]
        taught = self.divergence(logits, said)
        loss = (1 - self.settings.alpha) * taught
        logs = logged(taught=taught)
        if self.settings.alpha:
            supervised = self.supervise(labelled, batch.y).mean()
            loss = loss + self.settings.alpha * supervised
            logs |= logged(labelled=supervised)
        if self.settings.hints:
            hint = F.mse_loss(self.regressor(torch.cat(seen)), torch.cat(aims))  # [N, F]
            hint = sharing.mean_of_processes(hint)
            loss = loss + self.settings.hints * hint
            logs |= logged(hint=hint)
        return Step(loss, labelled, logs, labels_first=self.settings.alpha > 0)

    def divergence(self, logits: Tensor, said: list[Tensor]) -> Tensor:
        """T² KL(mean of the teachers || student) [], from logits [N, K]."""
        t = self.settings.temperature
        if self.facts.task == REGRESSION:
            return F.mse_loss(logits, torch.stack(said).mean(0))
        if self.facts.task == MULTI:
            q = torch.stack([(z / t).sigmoid() for z in said]).mean(0)
            cross = F.binary_cross_entropy_with_logits(logits / t, q)
            return t**2 * (cross - entropy_of_entries(q).mean())
        q = torch.stack([(z / t).softmax(1) for z in said]).mean(0)
        return t**2 * F.kl_div((logits / t).log_softmax(1), q, reduction="batchmean")
