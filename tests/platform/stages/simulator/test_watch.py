"""What a job reads may be put right under it, and nothing else may happen to it."""

import random

import pytest

from behaviorlm_ray.stages.finding import output_in
from tests.platform.stages.simulator.cast import Run, Stage, folder_of
from tests.platform.stages.simulator.watch import Violation, Watch
from tests.platform.stages.simulator.weather import Weather, past_of


@pytest.mark.parametrize("after", ["whole", "other", None])
def test_of_what_rots_under_a_reader_only_the_repair_is_allowed(after: str | None) -> None:
    stage = Stage(Weather(random.Random(0)))
    stage.bucket.objects.update(past_of(("tune",), is_whole=True))
    watch, folder = Watch(stage), folder_of("tune")
    manifest = watch.manifest_of(folder.name)
    assert manifest is not None
    reader, writer = stage.process("a"), stage.process("b")
    output = output_in(folder / "attempts" / manifest.attempt, manifest, reused=True)
    stage.runs.append(Run(reader, reading=[output], has_ended=True))
    key = f"{folder.key}/attempts/{manifest.attempt}/rows-1"
    whole = stage.bucket.objects[key]
    stage.bucket.put(stage.fate, key, b"rotten")
    stage.bucket.put(writer, key, {"whole": whole, "other": b"other", None: None}[after])
    if after == "whole":
        watch.ended()
    else:
        with pytest.raises(Violation, match=r"re(mov|plac)ed .*rows-1, which p0 reads"):
            watch.ended()
