"""How well the next behavior was predicted, for all, anchor and tail behaviors, with intervals."""
