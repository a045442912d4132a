"""Bugs that break a method silently, for test_planted_bugs.py."""

from dataclasses import dataclass


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
        "(teacher,) = together(self._teacher[0], batch.weak)",
        "(teacher,) = together(student, batch.weak)",
        (
            "methods/test_mean_teacher.py::test_the_loss_is_the_papers_value_by_hand",
            "methods/test_mean_teacher.py::test_the_teacher_is_the_average_that_training_keeps",
        ),
    ),
    Bug(
        "the average keeps its first batch-norm statistics",
        "training/ema.py",
        "torch._foreach_copy_(self._copies, self._buffers)",
        "pass",
        (
            "methods/test_mean_teacher.py::test_the_teacher_is_the_average_that_training_keeps",
            "training/test_ema.py::test_parameters_are_averaged_and_buffers_copied",
        ),
    ),
    Bug(
        "the average averages batch-norm statistics",
        "training/ema.py",
        "torch._foreach_copy_(self._copies, self._buffers)",
        "torch._foreach_lerp_(self._copies, self._buffers, 1.0 - decay)",
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
        "methods/batch_norm.py",
        "norm.x, None, None, gain, offset, True, 0.0, norm.eps",
        "norm.x, norm.running_mean, norm.running_var, gain, offset, True, norm.momentum, norm.eps",
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
        "methods/batch_norm.py",
        "norm.x, None, None, gain, offset, True, 0.0, norm.eps",
        "norm.x, mean, scale**-2 - norm.eps, norm.weight, norm.bias, False, 0.0, norm.eps",
        (
            "methods/test_forward.py::"
            "test_gradients_are_orthogonal_to_scales_and_shifts_before_a_norm[5]",
        ),
    ),
    Bug(
        "each pass normalises with its own statistics",
        "methods/batch_norm.py",
        "norm.x, None, None, gain, offset, True, 0.0, norm.eps",
        "norm.x, None, None, norm.weight, norm.bias, True, 0.0, norm.eps",
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
    Bug(
        "what helped the student and what harmed it change places",
        "methods/meta_pseudo_labels.py",
        "h = before - self._tested(batch)[1]",
        "h = self._tested(batch)[1] - before",
        (
            "methods/test_meta_pseudo_labels.py::"
            "test_the_feedback_is_the_exact_gradient_of_the_updated_students_loss[1-1.0]",
            "methods/test_meta_pseudo_labels.py::"
            "test_a_label_that_helps_is_made_more_probable_and_one_that_harms_less",
        ),
    ),
    Bug(
        "the feedback is too small",
        "methods/meta_pseudo_labels.py",
        "h = before - self._tested(batch)[1]",
        "h = 0.05 * (before - self._tested(batch)[1])",
        (
            "methods/test_meta_pseudo_labels.py::"
            "test_the_feedback_is_the_exact_gradient_of_the_updated_students_loss[1-1.0]",
        ),
    ),
    Bug(
        "the feedback's gradient is stopped",
        "methods/meta_pseudo_labels.py",
        "own = disagreement(strong, label).mean()",
        "own = disagreement(strong.detach(), label).mean()",
        (
            "methods/test_meta_pseudo_labels.py::"
            "test_the_feedback_is_the_exact_gradient_of_the_updated_students_loss[2-0.5]",
            "methods/test_meta_pseudo_labels.py::"
            "test_the_feedback_reaches_the_teacher_and_h_is_a_number",
        ),
    ),
    Bug(
        "Meta Pseudo Labels' student sees the labels",
        "methods/meta_pseudo_labels.py",
        "loss = disagreement(logits + self.log_prior, label).mean()",
        "loss = disagreement(logits + self.log_prior, label).mean() + 0.1 * "
        "self.supervise(student(batch.x), batch.y).mean()",
        (
            "methods/test_meta_pseudo_labels.py::"
            "test_no_label_reaches_the_student_before_the_last_part",
        ),
    ),
    Bug(
        "Meta Pseudo Labels' student learns probabilities, with a gradient",
        "methods/meta_pseudo_labels.py",
        "loss = disagreement(logits + self.log_prior, label).mean()",
        "loss = disagreement(logits + self.log_prior, strong.softmax(1)).mean()",
        ("methods/test_meta_pseudo_labels.py::test_each_loss_reaches_its_own_network_alone",),
    ),
    Bug(
        "Meta Pseudo Labels takes the likeliest label",
        "methods/meta_pseudo_labels.py",
        "label = torch.multinomial(said, 1, generator=self.draws)[:, 0].to(strong.device)",
        "label = strong.detach().argmax(1)",
        ("methods/test_meta_pseudo_labels.py::test_labels_are_drawn_not_the_most_probable",),
    ),
    Bug(
        "the baseline is added",
        "methods/meta_pseudo_labels.py",
        "loss = teacher + (h - self.baseline) * own",
        "loss = teacher + (h + self.baseline) * own",
        ("methods/test_meta_pseudo_labels.py::test_both_losses_are_the_papers_values_by_hand",),
    ),
    Bug(
        "the student is tested in training mode",
        "methods/meta_pseudo_labels.py",
        "with in_mode(student, False), torch.autocast(",
        "with torch.autocast(",
        (
            "methods/test_meta_pseudo_labels.py::test_measuring_changes_no_statistics_and_no_mode",
            "methods/test_meta_pseudo_labels.py::test_h_is_measured_without_noise",
        ),
    ),
    Bug(
        "the baseline is not saved",
        "methods/meta_pseudo_labels.py",
        'self.register_buffer("baseline", torch.tensor(0.0))',
        'self.register_buffer("baseline", torch.tensor(0.0), persistent=False)',
        (
            "methods/test_meta_pseudo_labels.py::test_its_state_is_the_teacher_and_the_baseline",
            "training/test_loop.py::"
            "test_what_a_method_learns_and_remembers_survives_a_kill"
            "[meta_pseudo_labels-own0-teacher.below.0.weight-sgd-5]",
        ),
    ),
    Bug(
        "the student is never tuned on the labels",
        "methods/meta_pseudo_labels.py",
        "if progress >= 1 - self.settings.tune:",
        "if progress >= 1:",
        (
            "methods/test_meta_pseudo_labels.py::"
            "test_in_the_last_part_the_student_learns_from_the_labels_alone",
        ),
    ),
    Bug(
        "UDA's gradient reaches its own target",
        "methods/meta_pseudo_labels.py",
        "taught = self.uda.teach(weak.detach(), batch.index)",
        "taught = self.uda.teach(weak, batch.index)",
        ("methods/test_meta_pseudo_labels.py::test_each_loss_reaches_its_own_network_alone",),
    ),
    Bug(
        "the teacher trains while the student's norms are frozen",
        "methods/meta_pseudo_labels.py",
        "        follow(self.teacher, self._student[0])\n",
        "        self.teacher.train()\n",
        (
            "methods/test_meta_pseudo_labels.py::"
            "test_the_teacher_trains_as_the_student_does_and_frozen_norms_stay_as_they_are[True]",
            "methods/test_meta_pseudo_labels.py::"
            "test_the_teacher_trains_as_the_student_does_and_frozen_norms_stay_as_they_are[False]",
        ),
    ),
    Bug(
        "the teacher keeps the modes that it was made with",
        "methods/meta_pseudo_labels.py",
        "        follow(self.teacher, self._student[0])\n",
        "",
        (
            "methods/test_meta_pseudo_labels.py::"
            "test_the_teacher_trains_as_the_student_does_and_frozen_norms_stay_as_they_are[True]",
            "methods/test_meta_pseudo_labels.py::"
            "test_the_teacher_trains_as_the_student_does_and_frozen_norms_stay_as_they_are[False]",
        ),
    ),
    Bug(
        "distillation without T²",
        "methods/distill.py",
        'return t**2 * F.kl_div((logits / t).log_softmax(1), q, reduction="batchmean")',
        'return F.kl_div((logits / t).log_softmax(1), q, reduction="batchmean")',
        (
            "methods/test_distill.py::test_the_loss_is_the_papers_value_by_hand[3.0]",
            "methods/test_distill.py::test_high_temperatures_match_logits",
        ),
    ),
    Bug(
        "distillation's temperature divides probabilities",
        "methods/distill.py",
        "q = torch.stack([(z / t).softmax(1) for z in said]).mean(0)",
        "q = torch.stack([z.softmax(1) / t for z in said]).mean(0)",
        ("methods/test_distill.py::test_the_loss_is_the_papers_value_by_hand[3.0]",),
    ),
    Bug(
        "teachers' logits are averaged, not their probabilities",
        "methods/distill.py",
        "q = torch.stack([(z / t).softmax(1) for z in said]).mean(0)",
        "q = (torch.stack(said).mean(0) / t).softmax(1)",
        ("methods/test_distill.py::test_the_loss_is_the_papers_value_by_hand[1.0]",),
    ),
    Bug(
        "distillation's divergence is the other way round",
        "methods/distill.py",
        'F.kl_div((logits / t).log_softmax(1), q, reduction="batchmean")',
        'F.kl_div(q.log(), (logits / t).softmax(1), reduction="batchmean")',
        ("methods/test_distill.py::test_the_loss_is_the_papers_value_by_hand[1.0]",),
    ),
    Bug(
        "a gradient reaches the teachers",
        "methods/distill.py",
        "with torch.no_grad(), seen_by_head(self._teachers[0]) as aims:",
        "with seen_by_head(self._teachers[0]) as aims:",
        ("methods/test_distill.py::test_the_student_learns_and_no_teacher_does",),
    ),
    Bug(
        "distillation looks at labels that do not count",
        "methods/distill.py",
        "        if self.settings.alpha:\n",
        "        if True:\n",
        ("methods/test_distill.py::test_without_alpha_no_label_is_looked_at[single]",),
    ),
    Bug(
        "distillation begins with statistics changed",
        "methods/distill.py",
        "                with blank_pass(net):\n                    width[net]",
        "                with torch.no_grad():\n                    width[net]",
        ("methods/test_distill.py::test_beginning_leaves_modes_and_statistics_as_they_were",),
    ),
    Bug(
        "teachers are trained",
        "methods/distill.py",
        "self._student, self._teachers = (networks.student,), networks.teachers",
        "self._student, self._teachers = (networks.student,), nn.ModuleList(networks.teachers)",
        ("methods/test_distill.py::test_the_student_learns_and_no_teacher_does",),
    ),
    Bug(
        "labelled images enter the task",
        "methods/pretext.py",
        "seen[0][len(x) :]",
        "seen[0][: len(images)]",
        (
            "methods/test_pretext.py::test_the_labelled_images_do_not_enter_the_task[rotation]",
            "methods/test_pretext.py::test_the_labelled_images_do_not_enter_the_task[simclr]",
            "methods/test_pretext.py::test_the_labelled_images_do_not_enter_the_task[masked]",
            "methods/test_pretext.py::test_the_labelled_images_do_not_enter_the_task[restoration]",
        ),
    ),
    Bug(
        "the task's weight is without effect",
        "methods/pretext.py",
        "loss, logs = loss + w * task, ",
        "loss, logs = loss + task, ",
        (
            "methods/test_pretext.py::test_the_loss_is_the_weighted_sum_from_one_pass[rotation]",
            "methods/test_pretext.py::test_the_loss_is_the_weighted_sum_from_one_pass[simclr]",
            "methods/test_pretext.py::test_the_loss_is_the_weighted_sum_from_one_pass[masked]",
            "methods/test_pretext.py::test_the_loss_is_the_weighted_sum_from_one_pass[restoration]",
        ),
    ),
    Bug(
        "the task never comes first",
        "methods/pretext.py",
        "if not v or progress < self.settings.alone:",
        "if not v:",
        (
            "methods/test_pretext.py::"
            "test_the_task_alone_looks_at_no_label_and_no_labelled_image[rotation-settings0-when0]",
            "methods/test_pretext.py::"
            "test_the_task_alone_looks_at_no_label_and_no_labelled_image[masked-settings1-when1]",
            "methods/test_pretext.py::"
            "test_the_task_alone_looks_at_no_label_and_no_labelled_image[simclr-settings2-when2]",
            "methods/test_pretext.py::"
            "test_by_default_the_pictures_come_first_and_the_others_stand_beside_the_labels"
            "[masked]",
            "methods/test_pretext.py::"
            "test_by_default_the_pictures_come_first_and_the_others_stand_beside_the_labels"
            "[restoration]",
        ),
    ),
    Bug(
        "labels are looked at before the task has ended",
        "methods/pretext.py",
        "            v, w = 0.0, 1.0\n",
        "            w = 1.0\n",
        (
            "methods/test_pretext.py::"
            "test_the_task_alone_looks_at_no_label_and_no_labelled_image[rotation-settings0-when0]",
            "methods/test_pretext.py::"
            "test_the_task_alone_looks_at_no_label_and_no_labelled_image[masked-settings1-when1]",
            "methods/test_pretext.py::"
            "test_the_task_alone_looks_at_no_label_and_no_labelled_image[simclr-settings2-when2]",
            "methods/test_pretext.py::"
            "test_by_default_the_pictures_come_first_and_the_others_stand_beside_the_labels"
            "[masked]",
            "methods/test_pretext.py::"
            "test_by_default_the_pictures_come_first_and_the_others_stand_beside_the_labels"
            "[restoration]",
        ),
    ),
    Bug(
        "the task has no end",
        "methods/pretext.py",
        "progress < self.settings.alone:",
        "progress <= 1 and self.settings.alone:",
        (
            "methods/test_pretext.py::"
            "test_without_weight_the_labels_alone_follow_the_task[rotation-0.25]",
            "methods/test_pretext.py::"
            "test_without_weight_the_labels_alone_follow_the_task[simclr-0.6]",
            "methods/test_pretext.py::"
            "test_without_weight_the_labels_alone_follow_the_task[masked-1.0]",
            "methods/test_pretext.py::"
            "test_without_weight_the_labels_alone_follow_the_task[restoration-0.25]",
            "methods/test_pretext.py::"
            "test_by_default_the_pictures_come_first_and_the_others_stand_beside_the_labels"
            "[masked]",
            "methods/test_pretext.py::"
            "test_by_default_the_pictures_come_first_and_the_others_stand_beside_the_labels"
            "[restoration]",
        ),
    ),
    Bug(
        "the task's weight counts where it is alone",
        "methods/pretext.py",
        "            v, w = 0.0, 1.0\n",
        "            v = 0.0\n",
        (
            "methods/test_pretext.py::"
            "test_the_task_alone_looks_at_no_label_and_no_labelled_image[rotation-settings1-when1]",
            "methods/test_pretext.py::"
            "test_the_task_alone_looks_at_no_label_and_no_labelled_image[masked-settings2-when2]",
            "methods/test_pretext.py::"
            "test_the_task_alone_looks_at_no_label_and_no_labelled_image[simclr-settings4-when4]",
        ),
    ),
    Bug(
        "a task without weight is shown beside the labels",
        "methods/pretext.py",
        "images = self.inputs(batch) if w else batch.x[:0]",
        "images = self.inputs(batch)",
        (
            "methods/test_pretext.py::"
            "test_without_weight_the_labels_alone_follow_the_task[rotation-0.6]",
            "methods/test_pretext.py::"
            "test_without_weight_the_labels_alone_follow_the_task[simclr-0.6]",
            "methods/test_pretext.py::"
            "test_without_weight_the_labels_alone_follow_the_task[masked-0.6]",
            "methods/test_pretext.py::"
            "test_without_weight_the_labels_alone_follow_the_task[restoration-0.6]",
        ),
    ),
    Bug(
        "the turns are in another order",
        "methods/rotation.py",
        "turn.repeat_interleave(len(answers) // TURNS)",
        "turn.repeat(len(answers) // TURNS)",
        ("methods/test_rotation.py::test_the_loss_is_the_papers_value_by_hand",),
    ),
    Bug(
        "images are turned the other way",
        "methods/rotation.py",
        "batch.strong.rot90(r, (2, 3))",
        "batch.strong.rot90(r, (3, 2))",
        ("methods/test_rotation.py::test_the_loss_is_the_papers_value_by_hand",),
    ),
    Bug(
        "a view is told from itself",
        "methods/simclr.py",
        "    similar.fill_diagonal_(-torch.inf)",
        "    # kept",
        (
            "methods/test_simclr.py::test_the_contrast_is_equation_1[5-0.5]",
            "methods/test_simclr.py::test_values_known_in_closed_form",
        ),
    ),
    Bug(
        "a view's other one is another image's",
        "methods/simclr.py",
        ".roll(len(z) // 2)",
        ".roll(1)",
        ("methods/test_simclr.py::test_the_contrast_is_equation_1[5-0.5]",),
    ),
    Bug(
        "projections keep their lengths",
        "methods/simclr.py",
        "    z = F.normalize(z)\n",
        "",
        ("methods/test_simclr.py::test_lengths_turns_and_order_make_no_difference",),
    ),
    Bug(
        "SimCLR's temperature multiplies",
        "methods/simclr.py",
        "z @ z.T / temperature",
        "z @ z.T * temperature",
        ("methods/test_simclr.py::test_the_contrast_is_equation_1[5-0.1]",),
    ),
    Bug(
        "pixels that are shown count",
        "methods/masked.py",
        "return (answers - batch.weak)[hidden].abs().mean()",
        "return (answers - batch.weak).abs().mean()",
        (
            "methods/test_masked.py::test_the_loss_is_the_mean_over_hidden_pixels_by_hand",
            "methods/test_masked.py::test_pixels_that_are_shown_do_not_enter_the_loss",
        ),
    ),
    Bug(
        "what is hidden is shown and the rest is hidden",
        "methods/masked.py",
        "return batch.weak * ~self._hidden",
        "return batch.weak * self._hidden",
        ("methods/test_masked.py::test_the_network_does_not_see_what_is_hidden",),
    ),
    Bug(
        "nothing may be hidden",
        "methods/masked.py",
        "max(1, round(self.settings.hidden * side * side))",
        "round(self.settings.hidden * side * side)",
        ("methods/test_masked.py::test_something_is_hidden_however_little_is_asked_for",),
    ),
    Bug(
        "restoration's aim is degraded",
        "methods/restoration.py",
        "return (answers - batch.weak).abs().mean()",
        "return (answers - self.degraded(batch.weak)).abs().mean()",
        ("methods/test_restoration.py::test_the_loss_is_toward_the_image_as_it_was_by_hand",),
    ),
    Bug(
        "the blur darkens the border",
        "methods/restoration.py",
        "count_include_pad=False",
        "count_include_pad=True",
        (
            "methods/test_restoration.py::test_blur_by_hand[3-3]",
            "methods/test_restoration.py::test_a_brighter_image_is_degraded_to_a_brighter_one",
        ),
    ),
    Bug(
        "all images meet the same degradation",
        "methods/restoration.py",
        "drawn = torch.randint(len(ways), (count,), generator=self.draws)",
        "drawn = torch.randint(len(ways), (1,)).repeat(count)",
        ("methods/test_restoration.py::test_every_image_meets_one_degradation_drawn_at_random",),
    ),
    Bug(
        "what a method learns is not trained",
        "training/loop.py",
        "optimiser.build(model, settings.optimiser, method)",
        "optimiser.build(model, settings.optimiser)",
        (
            "training/test_loop.py::"
            "test_a_method_begins_once_and_answers_between_the_student_and_its_average[sgd]",
        ),
    ),
    Bug(
        "what has no gradient is updated",
        "training/loop.py",
        "state.optimiser.zero_grad(set_to_none=True)",
        "state.optimiser.zero_grad(set_to_none=False)",
        (
            "training/test_loop.py::"
            "test_a_method_begins_once_and_answers_between_the_student_and_its_average[sgd]",
        ),
    ),
    Bug(
        "what a method remembers is not resumed",
        "training/state.py",
        '        restore(self.method, kept["method"])\n',
        "",
        (
            "training/test_loop.py::"
            "test_what_a_method_learns_and_remembers_survives_a_kill"
            "[rotation-own1-head.weight-sgd-5]",
            "training/test_loop.py::"
            "test_what_a_method_learns_and_remembers_survives_a_kill"
            "[flexmatch-own7-learnt-adamw-11]",
        ),
    ),
    Bug(
        "a teacher's version is not resumed",
        "training/state.py",
        '        restore(self.method, kept["method"])\n',
        '        self.method.load_state_dict(kept["method"])\n',
        ("training/test_loop.py::test_a_teacher_that_asks_for_its_version_is_resumed",),
    ),
    Bug(
        "what learns beside does not decay",
        "training/optimiser.py",
        "groups += parameter_groups(beside, settings, its)",
        'groups += [g | {"weight_decay": 0.0} for g in parameter_groups(beside, settings, its)]',
        (
            "training/test_optimiser.py::"
            "test_what_learns_beside_is_trained_and_its_norms_and_biases_do_not_decay[sgd]",
        ),
    ),
    Bug(
        "tokens are overlooked where there is a map before them",
        "models/structure.py",
        "made = {path for path, _ in maps(model, blank)[-1:]} | set(_tokens(model, blank)[-1:])",
        "made = {path for path, _ in maps(model, blank)[-1:]} or set(_tokens(model, blank)[-1:])",
        (
            "models/test_structure.py::"
            "test_the_last_map_is_what_comes_before_the_head[timm:test_vit-160-norm-shape5-head]",
            "methods/test_pretext.py::"
            "test_the_tasks_gradient_reaches_the_whole_of_a_transformer[masked]",
        ),
    ),
    Bug(
        "class tokens are taken for places",
        "models/structure.py",
        "tokens = output[:, output.shape[1] - side * side :]",
        "tokens = output[:, : side * side]",
        ("models/test_structure.py::test_tokens_are_laid_out_as_they_lie_in_the_image[1]",),
    ),
    Bug(
        "self-training takes one mean over labelled and unlabelled images",
        "methods/self_train.py",
        "return Step(supervised + self.settings.weight * taught, labelled, logs)",
        "return Step(supervised / 3 + self.settings.weight * taught * 2 / 3, labelled, logs)",
        (
            "methods/test_self_train.py::test_the_loss_is_the_papers_value_by_hand[self_train-1]",
            "methods/test_self_train.py::test_the_whole_gradient_by_hand[noisy_student-3]",
        ),
    ),
    Bug(
        "Noisy Student sees weak views",
        "methods/noisy_student.py",
        'view: str = "strong"',
        'view: str = "weak"',
        ("methods/test_self_train.py::test_the_loss_is_the_papers_value_by_hand[noisy_student-3]",),
    ),
    Bug(
        "pseudo-labels of a network whose classes count alike are taken as they are",
        "methods/self_train.py",
        "self.natural(batch.given)",
        "batch.given",
        (
            "methods/test_self_train.py::"
            "test_logit_adjustment_teaches_classes_as_frequent_as_they_are",
        ),
    ),
    Bug(
        "the threshold of pseudo-labels leaves out its own value",
        "procedures/pseudo_labels.py",
        "times: Counts = (sure >= threshold)",
        "times: Counts = (sure > threshold)",
        ("procedures/test_pseudo_labels.py::test_what_the_teacher_is_unsure_of_is_left_out",),
    ),
    Bug(
        "of a class that is said often the least sure are learnt",
        "procedures/pseudo_labels.py",
        "np.argsort(-sure[own]",
        "np.argsort(sure[own]",
        ("procedures/test_pseudo_labels.py::test_classes_are_learnt_alike_by_hand",),
    ),
    Bug(
        "pseudo-labels are looked up by their place in the batch",
        "procedures/prepare.py",
        "self.said[np.searchsorted(self.rows, rows)]",
        "self.said[np.arange(len(rows))]",
        ("procedures/test_pseudo_labels.py::test_what_is_given_to_training",),
    ),
    Bug(
        "a student goes on from its teacher's weights",
        "procedures/self_train.py",
        "Stage(name, method, trial, 1.0, until))",
        "Stage(name, method, trial, 1.0, until), teacher.trained.weights)",
        ("procedures/test_rounds.py::test_the_first_student_is_no_copy_of_its_teacher",),
    ),
    Bug(
        "students see the labels that they are validated on",
        "procedures/self_train.py",
        "Stage(name, method, trial, 1.0, until))",
        "Stage(name, method, False, 1.0, until))",
        (
            "procedures/test_rounds.py::"
            "test_without_test_images_held_out_labels_judge_and_a_last_round_learns_from_all",
        ),
    ),
    Bug(
        "an ensemble averages logits",
        "models/ensemble.py",
        "torch.stack([member(x).softmax(1) for member in self.members]).mean(0)",
        "torch.stack([member(x) for member in self.members]).mean(0).softmax(1)",
        ("models/test_ensemble.py::test_the_mean_of_probabilities_by_hand",),
    ),
    Bug(
        "FixRes leaves the last norm as it was",
        "training/freeze.py",
        "self._apart = norms[-1:] if freeze.how == FIXRES else []",
        "self._apart = []",
        ("procedures/test_sequences.py::test_the_last_norm_learns_among_what_is_frozen",),
    ),
    Bug(
        "a fold learns from copies of what it is judged on",
        "procedures/compare.py",
        "unlabelled=data.unlabelled[~copies]",
        "unlabelled=data.unlabelled",
        ("procedures/test_choose.py::test_a_fold_keeps_what_it_is_judged_on_from_training",),
    ),
    Bug(
        "the favourite is left for one that is right once more",
        "procedures/compare.py",
        'binomtest(won, won + lost, alternative="greater").pvalue < doubt',
        "won > lost",
        (
            "procedures/test_choose.py::"
            "test_the_favourite_is_left_only_where_there_is_no_doubt[favourite1-other1-flexmatch]",
        ),
    ),
]
