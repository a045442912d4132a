"""Whatever bytes come: a picture, or one line that says why not. In time, and in bounds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import damage
import pytest

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


def test_whole_files_are_decoded() -> None:
    """Else the damage below would be no damage."""
    assert [damage.outcome(data) for data in damage.whole()] == [""] * len(damage.whole())


def test_damaged_files_are_decoded_or_unreadable() -> None:
    reasons = [damage.outcome(damage.damaged(seed)) for seed in range(330)]
    assert 30 < reasons.count("") < 300  # of each kind enough


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits memory as Linux does")
def test_ten_thousand_damaged_files() -> None:
    """Each within two seconds and two gigabytes. What is printed last is the seed that broke it."""
    for first in range(0, 10_000, 2_500):
        done = subprocess.run(
            [sys.executable, damage.__file__, str(first), "2500", "2000"],
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (done.returncode, done.stdout[-300:], done.stderr[-2000:])
        found = json.loads(done.stdout.splitlines()[-1])
        assert sum(found["reasons"].values()) == 2500
