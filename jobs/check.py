"""`behaviorlm check` for `python -m` and `ray job submit`."""

import sys

from behaviorlm_ray.commands.check import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m jobs.check"))
