"""What lies under a root of runs: in which state it is, and what of it nothing needs any more."""
