"""The tiny base model of a world, made by a recipe that can be repeated."""
