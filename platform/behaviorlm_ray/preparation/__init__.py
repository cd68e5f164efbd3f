"""From log files to the prepared log, and how it is read."""
