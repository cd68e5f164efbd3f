"""The main world under the names that other modules use: its version, its places, how to make and simulate it."""

from behaviorlm_lab.world.generator import PLACES, Event, simulate_user
from behaviorlm_lab.world.inhabitants import WORLD_VERSION, default_world
from behaviorlm_lab.world.tables import World

__all__ = ["PLACES", "WORLD_VERSION", "Event", "World", "default_world", "simulate_user"]
