"""Kept prefixes of the histories of users, in bounded memory: who was asked about last stays longest."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from behaviorlm.predictor.requests import Owner
from behaviorlm.scoring.kept_prefixes import KeptPrefix
from behaviorlm.trees.token_tree import Int32


@dataclass(frozen=True)
class PrefixUse:
    """What a store was good for. hits: prompts of which half or more was there, without what all share.

    tokens: of prompts that were looked up, without what all share; found: those of them that were there.
    """

    hits: int = 0
    misses: int = 0
    tokens: int = 0
    found: int = 0
    owners: int = 0
    size: int = 0


class PrefixStore:
    """One prefix for each owner, of at most so many bytes together. It belongs to one model."""

    def __init__(self, most_bytes: int, shared_by_all: int) -> None:
        """shared_by_all: tokens that every prompt begins with, which count as no hit."""
        self._most_bytes, self._shared_by_all = most_bytes, shared_by_all
        self._kept: OrderedDict[Owner, KeptPrefix] = OrderedDict()
        self._size = self._hits = self._misses = self._tokens = self._found = 0
        self._lock = threading.Lock()

    def find(self, owner: Owner, token_ids: Int32) -> KeptPrefix | None:
        """What is kept of an owner, if a prompt's history begins with more of it than with what all share."""
        with self._lock:
            known = self._kept.get(owner)
            shared = 0 if known is None else known.shared_with(token_ids)
            found = max(0, shared - self._shared_by_all)
            tokens = len(token_ids) - self._shared_by_all
            is_hit = found > 0 and 2 * found >= tokens  # two windows begin alike by chance for a few tokens
            self._tokens += tokens
            self._found += found
            self._hits += is_hit
            self._misses += not is_hit
            if known is not None:
                self._kept.move_to_end(owner)
            return known if found else None

    def keep(self, owner: Owner, prefix: KeptPrefix) -> None:
        """Keep this of an owner, in place of what was; who was not asked about for longest makes room."""
        with self._lock:
            before = self._kept.pop(owner, None)
            self._size -= 0 if before is None else before.size
            if prefix.size > self._most_bytes:
                return
            self._kept[owner] = prefix
            self._size += prefix.size
            while self._size > self._most_bytes:
                _, dropped = self._kept.popitem(last=False)
                self._size -= dropped.size

    @property
    def use(self) -> PrefixUse:
        """What it was good for until now."""
        with self._lock:
            return PrefixUse(self._hits, self._misses, self._tokens, self._found, len(self._kept), self._size)
