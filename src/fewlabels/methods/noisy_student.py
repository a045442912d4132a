"""Noisy Student (Xie et al. 2020): self-training whose student is noised and not smaller.

    L = 1/B Σ_b H(y_b, p(noised(x_b))) + λ 1/U Σ_u H(q_u, p(noised(u)))          (algorithm 1)
    q_u = p'(u)

The teacher p' is not noised: it sees the images as they are, with all of its layers. The student
sees strong views (RandAugment), and dropout and stochastic depth take parts of it away: it has to
say under harder conditions what the teacher said, and so learns more than it was taught. Pseudo-
labels under the threshold are left out, each class is learnt from alike many images, and they stay
soft, which the paper found better where images belong to no class.
"""

from dataclasses import dataclass

from fewlabels.methods import self_train


@dataclass(frozen=True)
class Settings(self_train.Settings):
    view: str = "strong"  # of all images: weak or strong
    dropout: float = 0.5  # of the student, before its last layer
    survival: float = 0.8  # of the student's last residual branch: 1 less its stochastic depth


class NoisyStudent(self_train.SelfTrain):
    """The same step; the noise lies in the views and in the student."""
