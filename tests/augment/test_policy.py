import pytest

from fewlabels.augment.operations import FIXMATCH, OPERATIONS
from fewlabels.augment.policy import STRONG, WEAK, Policy, Stage
from fewlabels.errors import UserError


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("flip", "flip(0.5)"),
        ("flip()", "flip(0.5)"),
        ("crop", "crop(0.125)"),
        ("rand", "rand(2)"),
        ("cutout", "cutout(0.5)"),
        ("flip(0)", "flip(0)"),
        ("flip(p=1)", "flip(1)"),
        ("crop(shift=0.25)", "crop(0.25)"),
        ("rand(n=3)", "rand(3)"),
        ("cutout(side=.4)", "cutout(0.4)"),
        ("rand(among=rotate|invert)", "rand(2,among=rotate|invert)"),
        ("rand( 1 , among = rotate )", "rand(1,among=rotate)"),
        ("rand(2,among=" + "|".join(FIXMATCH) + ")", "rand(2)"),
        (" flip + crop(0.125)+rand(n=2) + cutout ", "flip(0.5)+crop(0.125)+rand(2)+cutout(0.5)"),
        ("crop+flip", "crop(0.125)+flip(0.5)"),  # the order is the user's
        ("none", "none"),
    ],
)
def test_round_trip(text: str, form: str) -> None:
    policy = Policy.parse(text)
    assert str(policy) == form
    assert Policy.parse(form) == policy


def test_stages() -> None:
    assert Policy.parse("none") == Policy() == Policy(())
    assert Policy.parse("flip+rand(1,among=rotate|shear_x)").stages == (
        Stage("flip", 0.5),
        Stage("rand", 1, ("rotate", "shear_x")),
    )


def test_the_two_views_of_fixmatch() -> None:
    assert str(WEAK) == "flip(0.5)+zoom(0.2)+light(0.3)+crop(0.125)"
    assert str(STRONG) == f"{WEAK}+rand(2)+cutout(0.5)"
    # Sohn et al. 2020, table 12, has fourteen: not invert, and cutout apart
    assert set(OPERATIONS) - set(FIXMATCH) == {"invert"}
    assert len(FIXMATCH) == 14


def test_is_a_value() -> None:
    one, two = Policy.parse("flip+crop"), Policy.parse("flip(0.5)+crop(0.125)")
    assert hash(one) == hash(two)
    assert len({one, two, STRONG, Policy.parse("crop+flip")}) == 3


def test_without() -> None:
    policy = Policy.parse("flip+crop+rand+cutout")
    assert str(policy.without("flip")) == "crop(0.125)+rand(2)+cutout(0.5)"
    assert str(policy.without("flip", "cutout")) == "crop(0.125)+rand(2)"
    weak = Policy.parse("flip+crop")
    assert weak.without("cutout") == weak
    assert str(weak.without("flip", "crop")) == "none"
    assert str(policy) == "flip(0.5)+crop(0.125)+rand(2)+cutout(0.5)"  # itself unchanged


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("blur", "'blur' is no stage; the stages are flip, crop, zoom, light, rand, cutout"),
        ("flip+", "'' is no stage"),
        ("", "'' is no stage"),
        ("none+flip", "'none' is no stage"),
        ("flip(0.5", "'flip(0.5' is no stage"),
        ("flip(0.5))", "'flip(0.5))' is no stage"),
        ("crop+flip(often)", "'often' in 'flip(often)' is no number"),
        ("rand(n=)", "'' in 'rand(n=)' is no number"),
        ("crop(p=0.1)", "'crop' has no argument 'p'"),
        ("flip(among=rotate)", "'flip' has no argument 'among'"),
        ("rand(among=rotate|swirl)", "no operation is named 'swirl'"),
        ("rand(among=)", "no operation is named ''"),
        ("flip(1.5)", "p of flip must be 0 to 1"),
        ("crop(-0.1)", "shift of crop must be 0 to 1"),
        ("rand(2.5)", "n of rand must be a whole number"),
        ("flip(0.5,0.7)", "flip is given 'p' twice"),
        ("rand(1,among=rotate,among=invert)", "rand is given 'among' twice"),
        ("rand(9)", "n of rand must be 0 to 8"),
        ("cutout(2)", "side of cutout must be 0 to 1"),
        ("flip(nan)", "p of flip must be 0 to 1"),
        ("crop(inf)", "shift of crop must be 0 to 1"),
        ("cutout+flip", "cutout must be the last stage"),
        ("cutout+cutout", "cutout must be the last stage"),
    ],
)
def test_errors_name_the_stage(text: str, named: str) -> None:
    with pytest.raises(UserError) as caught:
        Policy.parse(text)
    message = str(caught.value)
    assert message.startswith(f"augmentation '{text}': ")
    assert named in message
    assert "\n" not in message


def test_no_digit_is_lost_and_no_error_has_two_lines() -> None:
    policy = Policy.parse("crop(0.1234567)+cutout(1e-07)")
    assert Policy.parse(str(policy)) == policy
    with pytest.raises(UserError) as caught:
        Policy.parse("fl\nip")
    assert "\n" not in str(caught.value)
