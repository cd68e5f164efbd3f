"""What can be known about a world: exact probabilities, and the bounds that follow from them."""
