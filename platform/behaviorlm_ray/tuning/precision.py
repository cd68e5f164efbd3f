"""Which numbers tuning works in; asked of the base's files before a run, and of the model itself by its workers."""

from collections.abc import Collection

import torch

from behaviorlm.errors import ConfigError


def keeps_masters(dtypes: Collection[torch.dtype], zero_stage: int, only_adapter: bool = False) -> bool:
    """Whether weights of these dtypes are tuned with float32 masters: bfloat16 ones are.

    only_adapter: what is trained is float32, whatever the base is. Raises ConfigError for a dtype that tuning does not
    work in, and for bfloat16 that is trained under a ZeRO stage without masters.
    """
    refused = sorted(
        str(dtype).removeprefix("torch.") for dtype in {*dtypes} - {torch.float32, torch.bfloat16}
    )
    if refused:
        raise ConfigError(
            f"model.dtype: the base's weights are loaded as {', '.join(refused)}, but tuning works in float32 or "
            "bfloat16: set model.dtype to one of them"
        )
    low_precision = torch.bfloat16 in dtypes
    if low_precision and zero_stage == 0 and not only_adapter:
        raise ConfigError(
            "execution.tuning.zero_stage: 0 keeps no float32 masters of bfloat16 weights: set it to 1, 2 or 3, "
            "model.dtype to float32, or model.adaptation to lora"
        )
    return low_precision
