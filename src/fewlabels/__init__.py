"""Image classification from few labels: the best classifier a folder allows, and how sure it is.

import fewlabels as fl

run = fl.train("photos/", time_limit="10m")
print(run.result["verdict"])
print(fl.load(run).predict("new.jpg"))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewlabels.api import (
        Run,
        Search,
        compare,
        distill,
        explain,
        load,
        resume,
        resume_search,
        search,
        train,
    )
    from fewlabels.deploy.classifier import Classifier, Prediction
    from fewlabels.errors import UserError
    from fewlabels.pool.pool import Pool

__all__ = [
    "Classifier",
    "Pool",
    "Prediction",
    "Run",
    "Search",
    "UserError",
    "compare",
    "distill",
    "explain",
    "load",
    "resume",
    "resume_search",
    "search",
    "train",
]

# `evaluate` is a room of the house: the function is fewlabels.api.evaluate
_HOMES = {
    "Classifier": "deploy.classifier",
    "Pool": "pool.pool",
    "Prediction": "deploy.classifier",
    "Run": "api",
    "Search": "api",
    "UserError": "errors",
    "compare": "api",
    "distill": "api",
    "explain": "api",
    "load": "api",
    "resume": "api",
    "resume_search": "api",
    "search": "api",
    "train": "api",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for when it is asked for: torch takes seconds, `--help` must not."""
    if name in _HOMES:
        return getattr(import_module(f"fewlabels.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fewlabels' has no attribute '{name}'")
