"""Token trees: tokens in which each has a parent, tries of labels, and packs laid out as rows."""
