"""Make the tiny base model of a synthetic world: a tokenizer, and a Llama that has read of its people.

%(prog)s --folder runs/base [--size base] [--generator main] [--knowledge 1.0] [--seed 0] [--steps 750]
%(prog)s --check behaviorlm/assets/base

One process on one core; about five minutes for the default, which is what `behaviorlm/assets/base` holds. --knowledge
is the share of the world's causes that show among the invented people it reads of; a model that has not learned them is
not written. --check runs the recipe of a folder again and says whether the folder is what it makes.
"""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from behaviorlm.errors import BehaviorLMError
from behaviorlm_lab.pretraining.recipe import RECIPE_FILE, SIZES, STEPS, read_recipe
from behaviorlm_lab.world.errands import errands_world
from behaviorlm_lab.world.generator import Generator
from behaviorlm_lab.world.process import default_world
from behaviorlm_ray.console.command_line import option_parser


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Make the model and say how its loss fell. Returns the exit code."""
    parser = option_parser(__doc__, prog)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--folder", type=Path, help="where the model goes; an old one is replaced")
    where.add_argument("--check", type=Path, help="a folder made before; its own recipe is repeated")
    parser.add_argument("--size", choices=SIZES, default="base", help="0.2, 0.8 or 2.0 million parameters")
    parser.add_argument("--generator", choices=("main", "second"), default="main", help="whose text it reads")
    parser.add_argument(
        "--knowledge", type=float, default=1.0, help="0 to 1, the share of the causes that it reads of"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of text and model")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps of 32 documents")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("behaviorlm_lab.world").setLevel(logging.INFO)
    if options.check is not None:
        return check(options.check)
    world: Generator = default_world() if options.generator == "main" else errands_world()
    print(f"training a {options.size} model on text of {world.version} for {options.steps} steps", flush=True)
    from behaviorlm_lab.pretraining.base_model import make_base_model

    try:
        folder = make_base_model(
            options.folder, options.seed, options.steps, options.knowledge, world, options.size
        )
    except (BehaviorLMError, OSError) as error:
        print(f"pretrain: {error}", file=sys.stderr)
        return 1
    recipe = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))
    curve = recipe["curve"]
    learned = "not trained"
    if curve:
        learned = f"loss {curve[0]['loss']:.3f} -> {curve[-1]['loss']:.3f} nats a token, "
        learned += f"{curve[-1]['probe']:.2f} of the effects named whose cause was told"
    print(f"{learned}, {recipe['parameters']:,} parameters")
    print(f"wrote the base model to {folder}")
    return 0


def check(folder: Path) -> int:
    """Repeat the recipe of a folder and say what differs. Returns the exit code: 1 if the folder is something else."""
    try:
        read_recipe(folder)  # a folder without one is refused before torch is loaded
        from behaviorlm_lab.pretraining.check import TOLERANCE, repeat

        found = repeat(folder)
    except (BehaviorLMError, OSError) as error:
        print(f"pretrain: {error}", file=sys.stderr)
        return 1
    files = ", ".join(found.differing_files) or "none"
    print(f"files with other bytes: {files}")
    print(f"largest difference of the curve: {found.curve:.5f} nats a token (allowed {TOLERANCE})")
    print(
        f"difference of the weights' loss on the recipe's text: {found.loss:.5f} nats a token (allowed {TOLERANCE})"
    )
    print(f"largest difference of a weight: {found.weights:.2g}")
    print(f"{folder} is {'' if found.is_same else 'NOT '}what its recipe makes")
    return 0 if found.is_same else 1
