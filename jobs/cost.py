"""`behaviorlm cost` for `python -m` and `ray job submit`."""

import sys

from behaviorlm_ray.commands.cost import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m jobs.cost"))
