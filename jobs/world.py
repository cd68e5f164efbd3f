"""`behaviorlm world` for `python -m` and `ray job submit`."""

import sys

from behaviorlm_lab.commands.world import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m jobs.world"))
