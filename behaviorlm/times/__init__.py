"""What puts events in order: moments, epochs, durations and whole numbers, read from text exactly."""
