import itertools
from pathlib import Path

import numpy as np
import pytest
from rendering import random_policy

from fewlabels.augment.operations import FIXMATCH, OPERATIONS
from fewlabels.augment.policy import PRESETS, STAGES, STRONG, WEAK, Policy, Stage
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
        # ranges, from which each view draws
        ("rotate(-15..15)", "rotate(-15..15)"),
        ("rotate(strength=-15..15)", "rotate(-15..15)"),
        ("rotate(5..5)", "rotate(5)"),
        ("rotate(-15)", "rotate(-15)"),
        ("rotate", "rotate(-30..30)"),
        ("resized_crop", "resized_crop(0.08..1)"),
        ("resized_crop(0.5)", "resized_crop(0.5)"),
        ("rand(1,m=0..30)", "rand(1,m=0..30)"),
        ("rand(m=9)", "rand(2,m=9)"),
        ("rand(among=rotate,m=9,n=1)", "rand(1,m=9,among=rotate)"),
        # probabilities and further arguments
        ("rotate(p=0.5)", "rotate(-30..30,p=0.5)"),
        ("rotate(-15..15,p=1)", "rotate(-15..15)"),
        ("equalize(p=0.1)", "equalize(p=0.1)"),
        ("invert", "invert"),
        ("identity()", "identity"),
        ("elastic", "elastic(0.1)"),
        ("elastic(0.2,cells=8)", "elastic(0.2,cells=8)"),
        # nearest, wherever it stands
        ("nearest", "nearest"),
        ("flip+nearest", "nearest+flip(0.5)"),
        ("nearest+rotate(-15..15,p=0.5)+equalize", "nearest+rotate(-15..15,p=0.5)+equalize"),
        # presets, alone and among others
        ("weak", "zoom(0.2)+light(0.3)+crop(0.125)"),
        ("strong", "zoom(0.2)+light(0.3)+crop(0.125)+rand(2)+cutout(0.5)"),
        ("randaugment", "crop(0.125)+rand(2,m=10)+cutout(0.5)"),
        ("trivial", "crop(0.125)+rand(1,m=0..30)"),
        ("nearest+flip+weak+invert", "nearest+flip(0.5)+" + PRESETS["weak"] + "+invert"),
    ],
)
def test_round_trip(text: str, form: str) -> None:
    policy = Policy.parse(text)
    assert str(policy) == form
    assert Policy.parse(form) == policy


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_stands_by_itself(name: str) -> None:
    policy = Policy.parse(name)
    assert len(policy.stages) == 1
    assert name in policy
    assert Policy.parse(str(policy)) == policy


def test_random_policies_survive_their_text() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(500):
        policy = Policy.parse(random_policy(rng))
        assert Policy.parse(str(policy)) == policy
        assert Policy.parse(str(policy).replace("+", " + ").replace(",", " , ")) == policy
        seen |= {stage.name for stage in policy.stages}
    assert seen == set(STAGES)


def test_stages() -> None:
    assert Policy.parse("none") == Policy() == Policy(())
    assert Policy.parse("flip+rand(1,among=rotate|shear_x)").stages == (
        Stage("flip", (("p", (0.5, 0.5)),)),
        Stage("rand", (("n", (1, 1)),), ("rotate", "shear_x")),
    )
    stage = Policy.parse("rotate(-15..20,p=0.5)").stages[0]
    assert [stage["strength"], stage["p"], stage.get("m")] == [(-15, 20), (0.5, 0.5), None]
    assert Policy.parse("crop(0.2)").stages[0].value == 0.2


def test_views_of_training() -> None:
    assert str(WEAK) == "zoom(0.2)+light(0.3)+crop(0.125)"
    assert str(STRONG) == f"{WEAK}+rand(2)+cutout(0.5)"
    # Sohn et al. 2020, table 12, has fourteen: not ours beyond them, and cutout apart
    assert set(OPERATIONS) - set(FIXMATCH) == {"invert", "add", "scale"}
    assert len(FIXMATCH) == 14


def test_is_a_value() -> None:
    one, two = Policy.parse("flip+crop"), Policy.parse("flip(0.5)+crop(0.125)")
    assert hash(one) == hash(two)
    assert (
        len({one, two, STRONG, Policy.parse("crop+flip"), Policy.parse("nearest+flip+crop")}) == 4
    )


def test_without() -> None:
    policy = Policy.parse("flip+crop+rand+cutout")
    assert str(policy.without("flip")) == "crop(0.125)+rand(2)+cutout(0.5)"
    assert str(policy.without("flip", "cutout")) == "crop(0.125)+rand(2)"
    weak = Policy.parse("flip+crop")
    assert weak.without("cutout") == weak
    assert str(weak.without("flip", "crop")) == "none"
    assert str(policy) == "flip(0.5)+crop(0.125)+rand(2)+cutout(0.5)"  # itself unchanged
    assert str(Policy.parse("nearest+flip+crop").without("flip")) == "nearest+crop(0.125)"


def test_after() -> None:
    policy = Policy.parse("nearest+crop")
    assert str(policy.after("flip", "turn")) == "nearest+flip(0.5)+turn(1)+crop(0.125)"
    assert policy.after() == policy
    assert "flip" not in policy


def test_a_policy_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("# what we use\n\n  flip + rotate(-5..5)  # little\n", encoding="utf-8")
    assert Policy.read(str(file)) == Policy.parse("flip+rotate(-5..5)")
    file.write_text("strong", encoding="utf-8")
    assert Policy.read(str(file)) == STRONG


def test_read_takes_text_too() -> None:
    assert Policy.read("strong") == STRONG
    assert Policy.read("none") == Policy()
    long = "+".join(["rotate(-15..15,p=0.5)"] * 40)  # longer than a file's name may be
    assert Policy.read(long) == Policy.parse(long)
    with pytest.raises(UserError, match="'blur' is no stage"):
        Policy.read(f"{long}+blur")
    with pytest.raises(UserError, match=r"'missing/file\.txt' is no stage"):
        Policy.read("missing/file.txt")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "must hold one line with an augmentation, not 0"),
        (b"# flip\n\n", "must hold one line with an augmentation, not 0"),
        (b"flip\ncrop\n", "must hold one line with an augmentation, not 2"),
        (b"\xff\xfe\x00", "no augmentation can be read from it"),
        (b"blur", "'blur' is no stage"),
    ],
)
def test_errors_of_a_file(tmp_path: Path, content: bytes, named: str) -> None:
    file = tmp_path / "mine.txt"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        Policy.read(str(file))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("blur", "'blur' is no stage; there are flip, flip_y, turn, crop, resized_crop, "),
        ("blur", "scale, and by themselves none, weak, strong, randaugment, trivial or a file"),
        ("flip+", "'' is no stage"),
        ("", "'' is no stage"),
        ("none+flip", "'none' is no stage"),
        ("flip(0.5", "'flip(0.5' is no stage"),
        ("flip(0.5))", "'flip(0.5))' is no stage"),
        ("weak(0.5)", "'weak(0.5)' is no stage"),
        ("nearest(1)", "'nearest(1)' is no stage"),
        ("crop+flip(often)", "'often' in 'flip(often)' is no number"),
        ("rand(n=)", "'' in 'rand(n=)' is no number"),
        ("rotate(1..)", "'1..' in 'rotate(1..)' is no number"),
        ("rotate(..1)", "'..1' in 'rotate(..1)' is no number"),
        ("rotate(1..2..3)", "'1..2..3' in 'rotate(1..2..3)' is no number"),
        ("crop(p=0.1)", "'crop' has no argument 'p'"),
        ("flip(among=rotate)", "'flip' has no argument 'among'"),
        ("rotate(m=3)", "'rotate' has no argument 'm'"),
        ("invert(0.5)", "'invert' has no argument 'strength'"),
        ("invert(p=0.5,0.3)", "'invert' has no argument 'strength'"),
        ("elastic(0.1,p=0.5)", "'elastic' has no argument 'p'"),
        ("rand(among=rotate|swirl)", "no operation is named 'swirl'"),
        ("rand(among=)", "no operation is named ''"),
        ("rand(among=rotate|)", "no operation is named ''"),
        ("rand(among=flip)", "no operation is named 'flip'"),
        ("flip(1.5)", "p of flip must be 0 to 1"),
        ("crop(-0.1)", "shift of crop must be 0 to 1"),
        ("rand(2.5)", "n of rand must be a whole number"),
        ("elastic(0.1,cells=2.5)", "cells of elastic must be a whole number"),
        ("elastic(0.1,cells=17)", "cells of elastic must be 1 to 16"),
        ("elastic(0.1,cells=0)", "cells of elastic must be 1 to 16"),
        ("flip(0.5,0.7)", "flip is given 'p' twice"),
        ("flip(0.5,p=0.7)", "flip is given 'p' twice"),
        ("rand(1,among=rotate,among=invert)", "rand is given 'among' twice"),
        ("rand(9)", "n of rand must be 0 to 8"),
        ("rand(1,m=31)", "m of rand must be 0 to 30"),
        ("rand(1,m=-1)", "m of rand must be 0 to 30"),
        ("rotate(1000)", "strength of rotate must be -360 to 360"),
        ("brightness(-0.1)", "strength of brightness must be 0 to 10"),
        ("posterize(0)", "strength of posterize must be 1 to 8"),
        ("solarize(100..257)", "strength of solarize must be 0 to 256"),
        ("scale(0)", "strength of scale must be 0.05 to 20"),
        ("add(1.5)", "strength of add must be -1 to 1"),
        ("rotate(p=2)", "p of rotate must be 0 to 1"),
        ("rotate(15..-15)", "strength of rotate must be -360 to 360"),
        ("flip(0.1..0.5)", "p of flip must be one number"),
        ("rand(1..2)", "n of rand must be one number"),
        ("rotate(p=0.2..0.5)", "p of rotate must be one number"),
        ("elastic(0.1,cells=2..8)", "cells of elastic must be one number"),
        ("cutout(2)", "side of cutout must be 0 to 1"),
        ("resized_crop(0)", "area of resized_crop must be 0.001 to 1"),
        ("zoom(1)", "by of zoom must be 0 to 0.9"),
        ("flip(nan)", "p of flip must be 0 to 1"),
        ("rotate(nan..1)", "strength of rotate must be -360 to 360"),
        ("crop(inf)", "shift of crop must be 0 to 1"),
        ("cutout+flip", "cutout must be the last stage"),
        ("cutout+cutout", "cutout must be the last stage"),
        ("strong+flip", "cutout must be the last stage"),
        ("elastic+flip+elastic", "elastic may stand once"),
    ],
)
def test_errors_name_the_stage(text: str, named: str) -> None:
    with pytest.raises(UserError) as caught:
        Policy.parse(text)
    message = str(caught.value)
    assert message.startswith(f"augmentation '{text}': ")
    assert named in message
    assert "\n" not in message


def test_no_nonsense_gets_past_the_one_error() -> None:
    """Of all short texts of these pieces, each is a policy or one UserError."""
    pieces = [
        "flip",
        "rand",
        "none",
        "nearest",
        "(",
        ")",
        "0.5",
        "..",
        "+",
        ",",
        "=",
        "p",
        "among",
        " ",
    ]
    good, messages = 0, []
    for length in range(1, 5):
        for parts in itertools.product(pieces, repeat=length):
            try:
                policy = Policy.parse("".join(parts))
            except UserError as error:
                messages.append(str(error))
            else:
                assert Policy.parse(str(policy)) == policy
                good += 1
    assert good > 50
    assert not any("\n" in message for message in messages)


def test_no_digit_is_lost_and_no_error_has_two_lines() -> None:
    policy = Policy.parse("crop(0.1234567)+rotate(0.1..0.10000001)+cutout(1e-07)")
    assert Policy.parse(str(policy)) == policy
    with pytest.raises(UserError) as caught:
        Policy.parse("fl\nip")
    assert "\n" not in str(caught.value)
