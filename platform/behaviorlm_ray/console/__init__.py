"""What a person types and sees: command lines, configuration files, and the screen of a run."""
