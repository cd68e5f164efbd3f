"""How Ray is reached, what a job waits for, and notices that a machine is about to go."""
