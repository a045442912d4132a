"""Whether a run that is resumed is the run that was begun: the same settings.

`config.yaml` is for people, and people edit it. `checkpoints/settings.json` has the same settings,
beside what was asked for before `auto` was resolved: what the checkpoints were made with.
"""

from pathlib import Path
from typing import Any

from fewlabels.errors import UserError
from fewlabels.procedures.config import Config, seconds
from fewlabels.training.folder import RunFolder

SETTINGS = "checkpoints/settings.json"
NEW = "start a new run"


def keep_settings(folder: RunFolder, asked: Config, resolved: Config) -> None:
    """Writes what a run is begun with."""
    folder.write_json(SETTINGS, {"asked": asked.to_dict(), "resolved": resolved.to_dict()})


def need_same(folder: RunFolder, config: Config, again: dict[str, Any]) -> None:
    """UserError, with the setting's name, where `config`, which config.yaml holds, is not what the
    run was begun with, or where a setting is asked for `again` with another value.

    The same value is fine, as it was asked for or as it was resolved.
    """
    now = config.to_dict()
    begun = folder.read_json(SETTINGS) or {"asked": now, "resolved": now}  # killed before it was
    asked, resolved = begun["asked"], begun["resolved"]
    for name, value in resolved.items():
        if name in now and now[name] != value:
            raise UserError(
                f"{folder.path}/config.yaml: {name} is {_told(now[name])}, but the run was begun "
                f"with {_told(value)}: put that back, or {NEW}"
            )
    for name, value in again.items():
        if name not in now:
            raise UserError(f"--resume {folder.path}: no setting is named '{name}'")
        if name == "settings":
            _need_same_own(folder, value, asked[name], resolved[name])
            continue
        value = seconds(value) if name == "time_limit" and isinstance(value, str) else value
        if not any(_same(value, known.get(name)) for known in (asked, resolved)):
            option = "DATA" if name == "data" else "--" + name.replace("_", "-")
            _refuse(folder, f"{option} {_told(value)}", resolved[name])


def _need_same_own(
    folder: RunFolder, again: Any, asked: dict[str, Any], resolved: dict[str, Any]
) -> None:
    """The same for settings of the method's own."""
    if not isinstance(again, dict):
        _refuse(folder, f"settings {again}", resolved)
    for name, value in again.items():
        if not any(name in known and known[name] == value for known in (asked, resolved)):
            _refuse(folder, f"--set {name}={value}", resolved.get(name))


def _refuse(folder: RunFolder, given: str, begun: Any) -> None:
    raise UserError(
        f"--resume {folder.path}: {given}: the run was begun with {_told(begun)} and goes on as it "
        f"began; leave it out, or {NEW}"
    )


def _same(again: Any, known: Any) -> bool:
    if again == known:
        return True
    if isinstance(again, list) and isinstance(known, list) and len(again) == len(known):
        return all(map(_same, again, known))
    if isinstance(again, str) and isinstance(known, str):  # a path, from wherever it is named
        return Path(again).expanduser().absolute() == Path(known)
    return False


def _told(value: Any) -> str:
    return "nothing of its own" if value is None else str(value)
