"""Text becomes tokens: the chat of a sample, and auxiliary conversations."""
