"""The commands that a person types: what each is told, and when what is heavy is loaded for it."""
