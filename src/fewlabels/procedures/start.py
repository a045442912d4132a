"""The model that a run starts from, made ready for its images."""

from fewlabels.errors import UserError
from fewlabels.models import catalog
from fewlabels.models.built import Built
from fewlabels.models.initialise import initialise
from fewlabels.models.regularise import set_dropout, set_stochastic_depth
from fewlabels.procedures.config import Config


def ready(built: Built, name: str, size: int, classes: int, config: Config) -> Built:
    """`built` for images of `size`, with the first weights and the dropout that the settings name.

    `name` is what errors call it. UserError for settings without effect and where it cannot take
    such images.
    """
    built = catalog.sized(built, size, classes)
    if config.init is not None:
        if built.weights != "none":
            raise UserError(f"--init {config.init}: has no effect on pretrained weights")
        initialise(built.model, config.init)
    if config.dropout is not None:
        set_dropout(built.model, config.dropout)
    if config.drop_path is not None:
        set_stochastic_depth(built.model, config.drop_path, size)
    catalog.accepts(built.model, name, size)
    return built
