"""From rows of text to events: one spelling and one order of things, what is set aside, and what was read told back."""
