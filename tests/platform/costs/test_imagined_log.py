"""What a log that does not exist yet may be."""

import pytest
from pydantic import ValidationError

from behaviorlm_ray.costs.config import ImaginedLog


def test_more_users_than_pairs_of_events_are_refused() -> None:
    with pytest.raises(ValidationError, match="a user needs two, but 6000 users share 10000"):
        ImaginedLog(events=10_000, users=6_000)
    assert ImaginedLog(events=10_000, users=5_000).users == 5_000
