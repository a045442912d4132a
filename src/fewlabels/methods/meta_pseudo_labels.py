"""Meta Pseudo Labels (Pham et al. 2021): the teacher learns from how well its student does.

    ŷ_u ~ p(strong(u); θ_T)                                    the teacher's hard label, drawn
    θ_S' = θ_S - η ∇ 1/U Σ_u H(ŷ_u, p(strong(u); θ_S))         the student's update
    h = L_labelled(θ_S) - L_labelled(θ_S')                     how much that has helped (detached)
    L_T = 1/B Σ_b H(y_b, p(x_b; θ_T)) + λ(t) L_UDA(θ_T) + (h - h̄) 1/U Σ_u H(ŷ_u, p(strong(u); θ_T))

The last term's gradient is that of the labelled loss of the updated student with respect to the
teacher, to first order in η (section 2, appendix A): with labels drawn from the teacher, E[h ∇ H(ŷ,
p(θ_T))] = ∇ L_labelled(θ_S'(θ_T)). A label that helped the student (h > 0) is made more probable.
There is no factor beside, as η is in h already; for U images the mean makes it 1/U of that, in the
paper too. tests/methods/test_meta_pseudo_labels.py compares sign and scale with the exact gradient,
unrolled through the update. (The sum over u would be exact for all U and is of no use: one h for 64
labels is mostly noise. It took the teacher from 95 % to chance on development images.)

h̄, the moving average of h, takes from the noise and nothing from the mean. Both of h's losses are
taken in eval mode after the batch statistics of the step, so that they differ by the weights alone.

The student never sees a label until the last part of training, in which it is tuned on the labelled
images alone (section 3). The student is what is kept. λ(t) rises linearly over the first part.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewlabels.methods.forward import together
from fewlabels.methods.method import (
    Batch,
    Facts,
    Method,
    Networks,
    Step,
    Student,
    Views,
    logged,
)
from fewlabels.methods.targets import disagreement
from fewlabels.methods.uda import UDA
from fewlabels.methods.uda import Settings as UDASettings
from fewlabels.models.structure import in_mode
from fewlabels.settings import between


@dataclass(frozen=True)
class Settings:
    weight: float = 1.0  # λ of UDA at its full height; ours, the paper's is 8
    ramp: float = 0.1  # the part of training over which λ rises; ours
    temperature: float = 0.7  # T of UDA, below 1 sharpens the target
    threshold: float = 0.6  # β of UDA, of the weak view's confidence
    momentum: float = 0.99  # of h̄, the moving average; ours
    tune: float = 0.2  # the last part of training: the student on the labels; ours
    ratio: int = 4  # unlabelled images for each labelled one; ours, the paper's is 7

    def __post_init__(self) -> None:
        between("weight", self.weight, 0)
        between("ramp", self.ramp, 0, 1)
        between("temperature", self.temperature, 1e-3)
        between("threshold", self.threshold, 0, 1)
        between("momentum", self.momentum, 0, 1)
        between("tune", self.tune, 0, 1)
        between("ratio", self.ratio, 1, 1000)


class MetaPseudoLabels(Method):
    baseline: Tensor

    def __init__(self, facts: Facts, settings: Settings) -> None:
        super().__init__(facts)
        self.settings = settings
        self.views = Views("weak", ("weak", "strong"), settings.ratio)
        sharp = UDASettings(temperature=settings.temperature, threshold=settings.threshold)
        self.uda = UDA(facts, sharp)
        self.register_buffer("baseline", torch.tensor(0.0))  # h̄

    def begin(self, networks: Networks) -> None:
        self._student = (networks.student,)  # in a tuple: it is the loop's, not ours
        self.teacher = copy.deepcopy(networks.student)

    def step(self, student: Student, batch: Batch, progress: float) -> Step:
        """The student's loss; what its update is worth to the teacher follows in `respond`."""
        assert batch.weak is not None
        assert batch.strong is not None
        self._pending: tuple[Batch, Tensor, Tensor, Tensor] | None = None
        if progress >= 1 - self.settings.tune:
            (logits,) = together(student, batch.x)
            loss = self.supervise(logits, batch.y).mean()
            return Step(loss, logits, logged(labelled=loss))
        follow(self.teacher, self._student[0])
        x, weak, strong = together(self.teacher, batch.x, batch.weak, batch.strong)
        weak, strong = weak + self.log_prior, strong + self.log_prior  # [U, K] each
        said = strong.detach().softmax(1).cpu()  # drawn there, so that any device draws the same
        label = torch.multinomial(said, 1, generator=self.draws)[:, 0].to(strong.device)  # ŷ
        (logits,) = together(student, batch.strong)  # [U, K]
        loss = disagreement(logits + self.log_prior, label).mean()
        tested, before = self._tested(batch)

        supervised = self.supervise(x, batch.y).mean()
        taught = self.uda.teach(weak.detach(), batch.index)
        consistency = self.uda.unlabelled_loss(strong, taught, len(strong))
        rise = min(1.0, progress / self.settings.ramp) if self.settings.ramp else 1.0
        teacher = supervised + self.settings.weight * rise * consistency
        own = disagreement(strong, label).mean()
        self._pending = (batch, before, teacher, own)
        logs = logged(
            student=loss, labelled=supervised, unlabelled=consistency, feedback=self.baseline
        )
        return Step(loss, tested, logs, labels_first=False)

    def respond(self) -> Tensor | None:
        """The teacher's loss, once the student has been updated."""
        if self._pending is None:
            return None
        batch, before, teacher, own = self._pending
        self._pending = None
        h = before - self._tested(batch)[1]
        loss = teacher + (h - self.baseline) * own
        self.baseline.lerp_(h, 1 - self.settings.momentum)
        return loss

    @torch.no_grad()
    def _tested(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The student's logits [B, K] on the labelled images, and their loss []."""
        student = self._student[0]
        # in full precision: h is a small difference
        with in_mode(student, False), torch.autocast(batch.x.device.type, enabled=False):
            (logits,) = together(student, batch.x)
        return logits, self.supervise(logits, batch.y).mean()


def follow(teacher: nn.Module, student: nn.Module) -> None:
    """What is frozen in one, a norm for example, is in both."""
    for its, theirs in zip(teacher.modules(), student.modules(), strict=True):
        its.training = theirs.training
    for own, other in zip(teacher.parameters(), student.parameters(), strict=True):
        own.requires_grad_(other.requires_grad)
