"""How frequent the classes are, estimated from the labels; and alignment of predictions with it.

Distribution alignment (ReMixMatch, Berthelot et al. 2020, section 3.1):

    p'(y) ∝ p(y) · prior(y) / running(y)

`prior` is estimated from the labels with one pseudo-count a class, so that a class seen twice
among twenty labels is not taken for a tenth of the world to three digits; `running` is the moving
average of what the model predicts on unlabelled images.
"""

import torch
from torch import Tensor, nn


def estimated_prior(label_counts: tuple[int, ...]) -> Tensor:
    """The posterior mean [K] of class frequencies under a uniform Dirichlet prior."""
    counts = torch.tensor(label_counts, dtype=torch.float32) + 1.0
    return counts / counts.sum()


class Alignment(nn.Module):
    """Aligns batches of probabilities; its moving average is state."""

    prior: Tensor
    running: Tensor

    def __init__(self, prior: Tensor, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("prior", prior)
        self.register_buffer("running", prior.clone())

    @torch.no_grad()
    def forward(self, p: Tensor) -> Tensor:
        """Probabilities [U, K] -> aligned probabilities [U, K]; updates the moving average."""
        self.running.lerp_(p.mean(0), 1.0 - self.momentum)
        aligned = p * (self.prior / self.running.clamp_min(1e-6))
        return aligned / aligned.sum(1, keepdim=True)
