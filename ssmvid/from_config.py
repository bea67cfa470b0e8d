"""Modules and data sets from a config that came with a file or from the hub: it may name only what is listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

TARGET = "_target_"  # as Hydra has it, whose own `instantiate` would call whatever a file says


def from_config(config: Mapping[str, Any], known: Mapping[str, Callable[..., Any]], **more: Any) -> Any:
    """What `known` has under the config's `_target_`, called with the other keys; options that have one come first.

    Args:
        more: options beside the config's own.

    Raises:
        ValueError: a `_target_` is missing or not among `known`.
    """
    target = config.get(TARGET)
    if not isinstance(target, str) or target not in known:
        raise ValueError(f"{TARGET} must be one of {', '.join(sorted(known))}, got {target!r}")
    options = {
        name: from_config(value, known) if isinstance(value, Mapping) and TARGET in value else value
        for name, value in config.items()
        if name != TARGET
    }
    return known[target](**options, **more)
