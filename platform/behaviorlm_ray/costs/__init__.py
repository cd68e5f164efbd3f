"""What work takes, told before it is done: operations, memory, disk and hours, of a model, a card and a log."""
