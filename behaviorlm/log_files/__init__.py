"""The files of a log: the mapping of their columns, finding them, and reading every format as tables of text."""
