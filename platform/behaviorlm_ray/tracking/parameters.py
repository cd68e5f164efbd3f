"""A configuration as parameters of MLflow: flat text, as long as every version of it takes."""

import json
import re
from collections.abc import Mapping
from typing import Any

from behaviorlm.config import flattened

LONGEST_KEY = 250
LONGEST_VALUE = 500
"""MLflow's own limit before 2.8; later it is 6,000 characters."""
CUT = " … (whole in config.yaml)"


def parameters_of(configuration: Mapping[str, Any]) -> dict[str, str]:
    """By dotted key. What is too long is cut and says so; a key that is too long is left to config.yaml alone."""
    found = {}
    for key, value in flattened(configuration).items():
        name = re.sub(r"[^\w./ :-]", "_", key)
        if len(name) <= LONGEST_KEY:
            found[name] = _shortened(
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            )
    return found


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - len(CUT)] + CUT
