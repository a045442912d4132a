"""Self-training (Scudder 1965): a model labels the unlabelled images, and the next one learns them.

    L = 1/B Σ_b H(y_b, p(x_b)) + λ 1/U Σ_u H(q_u, p(u))
    q_u = p'(u),  or onehot(argmax p'(u)) with soft=false

p' is the teacher: it sees the images as they are, in eval mode, before the student begins. The
pseudo-labels q are kept where the teacher is sure enough, and of each class alike many are learnt.
The student begins anew, and is the next round's teacher. One forward pass holds labelled and
unlabelled images. Rounds, filter and balance are those of Noisy Student (Xie et al. 2020, algorithm
1), without its noise.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewlabels.errors import UserError
from fewlabels.methods.forward import together
from fewlabels.methods.method import (
    MULTI,
    REGRESSION,
    SINGLE,
    Batch,
    Facts,
    Method,
    Step,
    Student,
    Views,
    logged,
)
from fewlabels.settings import between, one_of


@dataclass(frozen=True)
class Settings:
    rounds: int = 3  # students after the first teacher, at most
    threshold: float = 0.3  # pseudo-labels that are less sure are left out
    even: bool = True  # of each class alike many: the surest, or some of them several times
    soft: bool = True  # probabilities, or the likeliest class
    weight: float = 1.0  # λ, of the unlabelled loss
    ratio: int = 4  # unlabelled images for each labelled one; ours
    view: str = "weak"  # of all images: weak or strong
    dropout: float = 0.0  # of the student, before its last layer
    survival: float = 1.0  # of the student's last residual branch: 1 less its stochastic depth
    models: str = ""  # the students, separated by spaces; empty for the teacher's own model
    grow: float = 0.0  # compound scaling: each student's φ is larger by so much

    def __post_init__(self) -> None:
        between("rounds", self.rounds, 1, 100)
        between("threshold", self.threshold, 0, 1)
        between("weight", self.weight, 0)
        between("ratio", self.ratio, 1, 1000)
        one_of("view", self.view, ("weak", "strong"))
        between("dropout", self.dropout, 0, 0.99)
        between("survival", self.survival, 0.01, 1)
        between("grow", self.grow, 0, 10)
        if self.models and self.grow:
            raise UserError("grow has no effect beside models: these name the students")
        if len(self.models.split()) > self.rounds:
            raise UserError(f"models: {self.models} are more than the {self.rounds} rounds")


class SelfTrain(Method):
    tasks: ClassVar = (SINGLE, MULTI, REGRESSION)

    def __init__(self, facts: Facts, settings: Settings) -> None:
        super().__init__(facts)
        self.settings = settings
        self.views = Views(settings.view, (settings.view,), settings.ratio, given=True)

    def step(self, student: Student, batch: Batch, progress: float) -> Step:
        images = batch.weak if self.settings.view == "weak" else batch.strong
        assert images is not None
        assert batch.given is not None
        labelled, unlabelled = together(student, batch.x, images)  # [B, K], [U, K]
        supervised = self.supervise(labelled, batch.y).mean()
        taught = self.supervise(unlabelled, self.natural(batch.given)).mean()
        logs = logged(labelled=supervised, unlabelled=taught)
        return Step(supervised + self.settings.weight * taught, labelled, logs)

    def natural(self, given: Tensor) -> Tensor:
        """Probabilities [U, K] of classes as frequent as they are, from those of a network whose
        classes count alike, as logit adjustment makes them."""
        if self.facts.task != SINGLE:
            return given
        p = given * self.log_prior.exp()
        return p / p.sum(1, keepdim=True)
