"""The language model: loading the base, its adapter, and how it takes trees."""
