"""Bugs that break a method silently, planted one by one: the tests must see them.

Each row is a file, a text that is found in it once, what takes its place, and the tests that must
then fail, each of them. The copy in which it is planted is what the tests import.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Bug:
    name: str
    file: str  # below src/fewlabels
    text: str
    instead: str
    tests: tuple[str, ...]  # below tests


BUGS = [
    Bug(
        "the weak views' gradient is not stopped",
        "methods/forward.py",
        "return labelled, strong, torch.arange(len(strong)), teach(weak.detach())",
        "return labelled, strong, torch.arange(len(strong)), teach(weak)",
        (
            "methods/test_uda.py::test_the_whole_gradient_by_hand[False]",
            "methods/test_softmatch.py::test_the_whole_gradient_by_hand[False]",
            "methods/test_forward.py::test_without_batch_statistics_the_gradient_is_exact"
            "[layer norm-5]",
        ),
    ),
    Bug(
        "the first of two passes has a gradient",
        "methods/forward.py",
        "with torch.no_grad(), statistics:",
        "with torch.enable_grad(), statistics:",
        (
            "methods/test_uda.py::test_the_whole_gradient_by_hand[True]",
            "methods/test_softmatch.py::test_the_whole_gradient_by_hand[True]",
            "methods/test_fixmatch.py::test_without_batch_norm_weak_views_are_looked_at_first",
        ),
    ),
    Bug(
        "FixMatch teaches probabilities, not a class",
        "methods/fixmatch.py",
        "return Taught(pseudo_label, (",
        "return Taught(q, (",
        (
            "methods/test_fixmatch.py::test_the_loss_is_the_papers_value_by_hand",
            "methods/test_fixmatch.py::test_the_whole_gradient_by_hand[False]",
        ),
    ),
    Bug(
        "FixMatch's threshold leaves out its own value",
        "methods/fixmatch.py",
        "confidence >= self.settings.threshold",
        "confidence > self.settings.threshold",
        ("methods/test_fixmatch.py::test_the_threshold_itself_counts_as_confident",),
    ),
    Bug(
        "pseudo-labels are soft, with a gradient",
        "methods/pseudo_label.py",
        "unlabelled.detach().argmax(1)",
        "unlabelled.softmax(1)",
        (
            "methods/test_pseudo_label.py::test_the_loss_is_the_papers_value_by_hand",
            "methods/test_pseudo_label.py::test_the_whole_gradient_by_hand",
        ),
    ),
    Bug(
        "alpha without a ramp",
        "methods/pseudo_label.py",
        "ramp = 1.0 if progress >= full else (progress - begin) / (full - begin)",
        "ramp = 1.0",
        (
            "methods/test_pseudo_label.py::test_alpha_is_zero_then_rises_linearly_then_stays"
            "[0.4-1.5]",
            "methods/test_pseudo_label.py::test_the_loss_is_the_papers_value_by_hand",
        ),
    ),
    Bug(
        "mean teacher's gradient reaches the teacher",
        "methods/mean_teacher.py",
        "with torch.no_grad():",
        "with torch.enable_grad():",
        (
            "methods/test_mean_teacher.py::"
            "test_the_gradient_reaches_the_student_alone_and_is_the_one_by_hand",
        ),
    ),
    Bug(
        "mean teacher's teacher is the student itself",
        "methods/mean_teacher.py",
        "teacher = self._teacher[0](batch.weak)",
        "teacher = student(batch.weak)",
        (
            "methods/test_mean_teacher.py::test_the_loss_is_the_papers_value_by_hand",
            "methods/test_mean_teacher.py::test_the_teacher_is_the_average_that_training_keeps",
        ),
    ),
    Bug(
        "the average keeps its first batch-norm statistics",
        "training/ema.py",
        "average.copy_(value)",
        "pass",
        (
            "methods/test_mean_teacher.py::test_the_teacher_is_the_average_that_training_keeps",
            "training/test_ema.py::test_parameters_are_averaged_and_buffers_copied",
        ),
    ),
    Bug(
        "the average averages batch-norm statistics",
        "training/ema.py",
        "average.copy_(value)",
        "average.copy_(decay * average + (1 - decay) * value)",
        (
            "methods/test_mean_teacher.py::test_the_teacher_is_the_average_that_training_keeps",
            "training/test_ema.py::test_parameters_are_averaged_and_buffers_copied",
        ),
    ),
    Bug(
        "the temperature divides probabilities",
        "methods/targets.py",
        "return (logits / temperature).softmax(-1)",
        "return (logits.softmax(-1) / temperature).softmax(-1)",
        (
            "methods/test_uda.py::test_the_temperature_divides_the_logits",
            "methods/test_uda.py::test_the_loss_is_the_papers_value_by_hand",
            "methods/test_targets.py::test_sharpening_divides_the_logits",
        ),
    ),
    Bug(
        "UDA's mask looks at sharpened probabilities",
        "methods/uda.py",
        "confidence = weak.softmax(1).amax(1)",
        "confidence = sharpened(weak, t).amax(1)",
        (
            "methods/test_uda.py::test_the_mask_looks_at_probabilities_before_sharpening",
            "methods/test_uda.py::test_the_loss_is_the_papers_value_by_hand",
        ),
    ),
    Bug(
        "the mean is over the images kept",
        "methods/targets.py",
        "return (each.mean(1) if each.ndim == 2 else each).sum() / count",
        "return (each.mean(1) if each.ndim == 2 else each).sum() / weight.sum()",
        (
            "methods/test_fixmatch.py::test_the_loss_is_the_papers_value_by_hand",
            "methods/test_uda.py::test_the_loss_is_the_papers_value_by_hand",
            "methods/test_flexmatch.py::test_counts_thresholds_and_loss_by_hand_over_three_steps",
            "methods/test_freematch.py::test_averages_thresholds_and_loss_by_hand_over_three_steps",
            "methods/test_softmatch.py::test_mean_variance_and_loss_by_hand_over_three_steps",
        ),
    ),
    Bug(
        "annealing goes by the largest probability",
        "methods/uda.py",
        "true = torch.exp(-disagreement(logits.detach() + self.log_prior, y))",
        "true = (logits.detach() + self.log_prior).softmax(1).amax(1)",
        ("methods/test_uda.py::test_annealing_leaves_out_images_whose_true_class_is_probable",),
    ),
    Bug(
        "annealing's mean is over all labelled images",
        "methods/uda.py",
        "return (each * kept).sum() / kept.sum().clamp_min(1)",
        "return (each * kept).mean()",
        ("methods/test_uda.py::test_annealing_leaves_out_images_whose_true_class_is_probable",),
    ),
    Bug(
        "FlexMatch numbers images within the batch",
        "methods/flexmatch.py",
        "self.learnt[index[sure]] = pseudo_label[sure]",
        "self.learnt[torch.arange(len(index))[sure]] = pseudo_label[sure]",
        (
            "methods/test_flexmatch.py::test_counts_thresholds_and_loss_by_hand_over_three_steps",
            "methods/test_flexmatch.py::test_state_survives_a_round_trip",
        ),
    ),
    Bug(
        "FlexMatch counts without those not learnt yet",
        "methods/flexmatch.py",
        "torch.maximum(counts.max(), unused)",
        "counts.max()",
        (
            "methods/test_flexmatch.py::test_unused_images_keep_thresholds_low_at_the_start",
            "methods/test_flexmatch.py::test_the_whole_gradient_by_hand[False]",
        ),
    ),
    Bug(
        "what FlexMatch has learnt is not saved",
        "methods/flexmatch.py",
        'self.register_buffer("learnt", torch.full((facts.num_images,), -1))',
        "self.learnt = torch.full((facts.num_images,), -1)",
        ("methods/test_flexmatch.py::test_state_survives_a_round_trip",),
    ),
    Bug(
        "alignment toward a uniform prior",
        "methods/prior.py",
        "aligned = p * (self.prior / ",
        "aligned = p * (1 / ",
        (
            "methods/test_prior.py::test_alignment_by_hand_over_three_batches",
            "methods/test_prior.py::test_predictions_that_follow_the_prior_stay_as_they_are",
        ),
    ),
    Bug(
        "alignment's average is not saved",
        "methods/prior.py",
        'self.register_buffer("running", prior.clone())',
        "self.running = prior.clone()",
        (
            "methods/test_prior.py::test_state_survives_a_round_trip",
            "methods/test_fixmatch.py::test_state_survives_a_round_trip",
        ),
    ),
    Bug(
        "SoftMatch's variance is biased",
        "methods/softmatch.py",
        "confidence.var()",
        "confidence.var(correction=0)",
        ("methods/test_softmatch.py::test_mean_variance_and_loss_by_hand_over_three_steps",),
    ),
    Bug(
        "SoftMatch's pseudo-labels are aligned",
        "methods/softmatch.py",
        "return Taught(p.argmax(1), ",
        "return Taught(self.alignment(p).argmax(1), ",
        (
            "methods/test_softmatch.py::test_alignment_changes_the_weight_and_never_the_pseudo_label",
        ),
    ),
    Bug(
        "FreeMatch's thresholds are not relative to the largest mean",
        "methods/freematch.py",
        "thresholds = self.level * self.mean / self.mean.max()",
        "thresholds = self.level * self.mean",
        (
            "methods/test_freematch.py::test_thresholds_are_relative_to_the_most_frequent_class",
            "methods/test_freematch.py::test_averages_thresholds_and_loss_by_hand_over_three_steps",
        ),
    ),
    Bug(
        "FreeMatch's fairness has the other sign",
        "methods/freematch.py",
        "return (aim * (is_now + 1e-12).log()).sum()",
        "return -(aim * (is_now + 1e-12).log()).sum()",
        (
            "methods/test_freematch.py::test_the_fairness_term_by_hand",
            "methods/test_freematch.py::test_fairness_takes_from_the_class_that_is_said_too_often",
        ),
    ),
    Bug(
        "running statistics are updated twice",
        "methods/forward.py",
        "x, None, None, gain, offset if bias is None else bias + offset, True, 0.0, eps",
        "x, running_mean, running_var, gain, offset if bias is None else bias + offset,"
        " True, momentum, eps",
        (
            "methods/test_forward.py::test_running_statistics_are_updated_once_a_step[batch norm]",
            "methods/test_forward.py::"
            "test_logits_loss_and_running_statistics_are_those_of_one_pass[batch norm-5]",
        ),
    ),
    Bug(
        "batches are counted twice",
        "methods/forward.py",
        "count.copy_(earlier)",
        "pass",
        (
            "methods/test_forward.py::"
            "test_a_second_step_begins_with_statistics_of_its_own[batch norm, mean of all batches]",
        ),
    ),
    Bug(
        "statistics are constants to the gradient",
        "methods/forward.py",
        "x, None, None, gain, offset if bias is None else bias + offset, True, 0.0, eps",
        "x, mean, scale**-2 - eps, weight, bias, False, 0.0, eps",
        (
            "methods/test_forward.py::"
            "test_gradients_are_orthogonal_to_scales_and_shifts_before_a_norm[5]",
        ),
    ),
    Bug(
        "each pass normalises with its own statistics",
        "methods/forward.py",
        "x, None, None, gain, offset if bias is None else bias + offset, True, 0.0, eps",
        "x, None, None, weight, bias, True, 0.0, eps",
        (
            "methods/test_forward.py::"
            "test_logits_loss_and_running_statistics_are_those_of_one_pass[batch norm-5]",
            "methods/test_forward.py::test_norms_that_hold_their_activation_are_no_exception[5]",
        ),
    ),
    Bug(
        "pseudo-labels without the prior that the loss has",
        "methods/consistency.py",
        "return self.teach(weak + self.log_prior, batch.index)",
        "return self.teach(weak, batch.index)",
        tuple(
            f"methods/test_{name}.py::test_logit_adjustment_by_hand"
            for name in ("fixmatch", "flexmatch", "freematch", "softmatch", "uda")
        ),
    ),
]
NONE = Bug("no bug", "methods/targets.py", "import torch\n", "import torch\n", ())


def outcome(bug: Bug, tests: tuple[str, ...], home: Path) -> dict[str, str]:
    """passed or failed, by test, with the bug planted in a copy of the package."""
    copy = home / "fewlabels"
    shutil.copytree(ROOT / "src" / "fewlabels", copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / bug.file
    text = path.read_text()
    assert text.count(bug.text) == 1, f"{bug.file} holds {text.count(bug.text)} times: {bug.text}"
    path.write_text(text.replace(bug.text, bug.instead))
    environment = os.environ | {"PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1"}

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        return done.stdout

    imported = python("-c", "import fewlabels; print(fewlabels.__file__)")
    assert Path(imported.strip()) == copy / "__init__.py"
    said = python(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rpfE"),
        *(f"tests/{test}" for test in tests),
    )
    results = {}
    for line in said.splitlines():
        word, _, rest = line.partition(" ")
        if word in ("PASSED", "FAILED", "ERROR"):
            results[rest.split(" - ")[0].removeprefix("tests/")] = word.lower()
    return results


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_seen(bug: Bug, tmp_path: Path) -> None:
    assert outcome(bug, bug.tests, tmp_path) == dict.fromkeys(bug.tests, "failed")


@pytest.mark.slow
def test_without_a_bug_the_same_tests_pass(tmp_path: Path) -> None:
    tests = tuple(sorted({test for bug in BUGS for test in bug.tests}))
    assert outcome(NONE, tests, tmp_path) == dict.fromkeys(tests, "passed")
