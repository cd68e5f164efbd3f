"""The laboratory's commands, found by the entry-point group `behaviorlm.commands`."""
