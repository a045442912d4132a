import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REAL = """
import json, sys
from fewlabels.models import catalog
catalog.build("cnn_small", 3)
early = sorted({"timm", "torchvision"} & set(sys.modules))
try:  # as another library would, before us: leaves half of the package in sys.modules
    import torchvision
    whole = True
except RuntimeError:
    whole = False

import torch
from fewlabels.torchvision_repair import _declared, repair
first = repair()
held = len(_declared)
again = repair()
anew = repair.__wrapped__()  # past the cache: nothing is left to declare

import timm, torchvision
from torchvision import transforms
from torchvision.models import get_model
x = torch.zeros(2, 3, 32, 32)
shapes = [list(get_model("shufflenet_v2_x0_5", weights=None).eval()(x).shape)]
shapes.append(list(timm.create_model("test_resnet", num_classes=4).eval()(x).shape))
shapes.append(list(transforms.Resize(5)(x).shape))
print(json.dumps({
    "early": early, "whole": whole, "first": first, "again": again, "anew": anew,
    "held": [held, len(_declared)], "shapes": shapes,
    "known": [hasattr(torch.ops.torchvision, name) for name in first],
}))
"""

# Four packages that are named torchvision, each tried in turn; PART lies beside each.
PART = 'import torch; whole = hasattr(torch.ops.torchvision, "stand_in_b")'
STAND_INS = {
    "sound": "",
    "two": """
import torch
from torchvision import part
for name in ("stand_in_a", "stand_in_b"):
    if not hasattr(torch.ops.torchvision, name):
        raise RuntimeError(f"operator torchvision::{name} does not exist")
if not part.whole:
    raise RuntimeError("a part is left from the attempt that failed")
""",
    "stubborn": "raise RuntimeError('operator torchvision::stand_in_c does not exist')",
    "other": "raise RuntimeError('the moon is full')",
}

FAKES = """
import importlib, json, sys
from pathlib import Path
import torch
from fewlabels.torchvision_repair import repair
said = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        said[folder.name] = repair.__wrapped__()
    except RuntimeError as error:
        said[folder.name] = str(error)
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
print(json.dumps(said))
"""


def told(code: str, *arguments: str) -> dict[str, Any]:
    """What a fresh Python prints last: repair() has its effect once in a process."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_repair() -> None:
    said = told(REAL)
    assert said["early"] == []  # our own models cost nobody the import
    assert (said["first"] == []) == said["whole"]
    assert said["again"] == said["first"]
    assert said["anew"] == []
    assert said["held"] == [len(said["first"])] * 2
    assert all(said["known"])
    assert said["shapes"] == [[2, 1000], [2, 4], [2, 3, 5, 5]]


def test_what_is_repaired(tmp_path: Path) -> None:
    for name, code in STAND_INS.items():
        package = tmp_path / name / "torchvision"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(code)
        (package / "part.py").write_text(PART)
    assert told(FAKES, str(tmp_path)) == {
        "sound": [],
        "two": ["stand_in_a", "stand_in_b"],
        "stubborn": "operator torchvision::stand_in_c does not exist",
        "other": "the moon is full",
    }
