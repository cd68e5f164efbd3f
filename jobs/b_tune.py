"""`behaviorlm b_tune` for `python -m` and `ray job submit`."""

import sys

from behaviorlm_ray.commands.b_tune import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m jobs.b_tune"))
