from fewlabels.procedures.config import Config
from fewlabels.procedures.tasks import methods, suited


def test_numbers_are_learnt_from_weak_views_unless_a_policy_is_named() -> None:
    plain = Config("images", method="supervised")
    assert suited(plain, "regression").views == ("weak",)
    assert suited(plain, "multi").views == ("strong",)
    assert suited(plain, "single").settings == {}
    named = Config("images", method="supervised", augment="randaugment")
    assert suited(named, "regression").views == ("strong",)
    asked = Config("images", method="supervised", settings={"view": "strong"})
    assert suited(asked, "regression").views == ("strong",)
    settled = suited(plain, "regression")
    assert suited(settled, "regression") == settled


def test_the_guard_is_for_one_class_an_image() -> None:
    config = Config("images", method="mean_teacher")
    assert [suited(config, task).guard for task in ("single", "multi", "regression")] == [
        *("on", "off", "off")
    ]


def test_methods_of_several_runs_and_those_without_a_meaning_are_not_taken() -> None:
    several, numbers = methods("multi"), methods("regression")
    assert {"supervised", "mean_teacher", "fixmatch", "uda", "pseudo_label"} < set(several)
    assert {"supervised", "mean_teacher", "rotation"} < set(numbers)
    for name in ("self_train", "noisy_student", "distill", "meta_pseudo_labels", "flexmatch"):
        assert name not in (*several, *numbers)
    assert "fixmatch" not in numbers
