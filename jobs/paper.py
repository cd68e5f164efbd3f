"""`behaviorlm paper` for `python -m` and `ray job submit`."""

import sys

from behaviorlm_lab.commands.paper import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m jobs.paper"))
