"""Label scores of every behavior, decision rules on them, and cloze questions."""
