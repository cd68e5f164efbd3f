"""What a person types and sees: command lines, configuration files, progress."""
