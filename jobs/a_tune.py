"""`behaviorlm a_tune` for `python -m` and `ray job submit`."""

import sys

from behaviorlm_ray.commands.a_tune import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m jobs.a_tune"))
