"""Imported by the server that workers are forked from: what each of them would import and find out anew, once."""

import os
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"

import deepspeed
import deepspeed.runtime.zero.muon.muon_optimizer  # takes most of a second, and every optimizer asks for it
import deepspeed.runtime.zero.stage3
import pytest  # test modules are imported where their functions are called
import ray.train  # by test_train

from behaviorlm_ray.tuning import trainer
from tests.platform.tuning_runs import toy_model

WARM: tuple[Any, ...] = (
    deepspeed.runtime.zero.muon.muon_optimizer,
    deepspeed.runtime.zero.stage3,
    pytest,
    ray.train,
    trainer,
    deepspeed.ops.__compatible_ops__,  # found by running compilers
    toy_model(),  # the first one compiles what transformers knows about names of weights
)
