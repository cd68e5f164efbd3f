"""Imported by the server that workers are forked from: what each of them would import and find out anew, once."""

import gc
import os
from importlib import import_module

os.environ["DS_ACCELERATOR"] = "cpu"
gc.disable()  # what is imported stays; workers freeze it

import deepspeed  # noqa: E402

from tests.platform.tuning_runs import toy_model  # noqa: E402

for module in (
    "behaviorlm_ray.tuning.trainer",
    "deepspeed.comm.mori",
    "deepspeed.module_inject.auto_ep_layer",
    "deepspeed.ops.triton_ops.autoep_fused_token_ops",
    "deepspeed.runtime.superoffload.superoffload_stage3",
    "deepspeed.runtime.zero.muon.muon_optimizer",  # takes most of a second, and every optimizer asks for it
    "deepspeed.runtime.zero.stage3",
    "pytest",  # functions of test modules run in workers, which import the module
    "ray.train",
):
    import_module(module)
deepspeed.ops.__compatible_ops__  # noqa: B018  (looking at them finds them, by running compilers)
toy_model()  # the first one compiles what transformers knows about names of weights
gc.enable()
