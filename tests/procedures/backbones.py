"""A pretrained backbone for tests: a small net of timm in a folder, with random weights."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from fewlabels.torchvision_repair import repair


def backbone(folder: Path, seed: int = 3, **more: Any) -> str:
    """Writes `test_resnet` for images of 32 px and two classes; returns its name for --model."""
    repair()
    import timm

    torch.manual_seed(seed)
    state = timm.create_model("test_resnet", num_classes=2).state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors")
    pretrained = {
        "input_size": [3, 32, 32],
        "mean": [0.3, 0.3, 0.3],
        "std": [0.3, 0.3, 0.3],
        "num_classes": 2,
        "classifier": "fc",
        "first_conv": "conv1.0",
    }
    config = {"architecture": "test_resnet", "num_classes": 2, "pretrained_cfg": pretrained | more}
    (folder / "config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"
