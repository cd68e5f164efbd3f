"""Which numbers tuning works in; asked of the base's files before a run, and of the model itself by its workers."""

from collections.abc import Collection

import torch

from behaviorlm.errors import ConfigError


def keeps_masters(dtypes: Collection[torch.dtype]) -> bool:
    """Whether weights of these dtypes are tuned with float32 masters: bfloat16 ones are.

    Raises ConfigError for a dtype that tuning does not work in.
    """
    refused = sorted(
        str(dtype).removeprefix("torch.") for dtype in {*dtypes} - {torch.float32, torch.bfloat16}
    )
    if refused:
        raise ConfigError(
            f"model.dtype: the base's weights are loaded as {', '.join(refused)}, but tuning works in float32 or "
            "bfloat16: set model.dtype to one of them"
        )
    return torch.bfloat16 in dtypes
