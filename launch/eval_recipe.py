"""Recipes of evaluation, configs/eval/: a paper's protocol as settings of `eval`, for any run."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from data_process.errors import InputError


def recipe_words(recipe: Path | None) -> list[str]:
    """The settings of a recipe as overrides ``--eval.NAME=VALUE``, to stand before all others; none without a recipe.

    Raises:
        InputError: where it does not exist, is not YAML, or sets anything but `eval`.
    """
    if recipe is None:
        return []
    if not recipe.is_file():
        raise InputError(f"--config {recipe} does not exist; expected a recipe such as configs/eval/retrieve_iic.yaml")
    try:
        content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--config {recipe} is not YAML: {error}") from None
    settings = content.get("eval") if isinstance(content, dict) else None
    if not isinstance(settings, dict) or len(content) > 1:
        told = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise InputError(
            f"--config {recipe}: a recipe of evaluation sets `eval:` alone, this one {told}; other settings are given "
            "on the command line"
        )
    return [
        f"--eval.{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in settings.items()
    ]
