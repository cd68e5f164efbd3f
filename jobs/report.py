"""`behaviorlm report` for `python -m` and `ray job submit`."""

import sys

from behaviorlm_ray.commands.report import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m jobs.report"))
