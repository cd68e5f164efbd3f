"""Making what an attempt wrote the output of its stage: of two writers one commits, the other uses that."""

from collections.abc import Callable

from behaviorlm.errors import StorageError
from behaviorlm_ray import storage
from behaviorlm_ray.stages.attempts import Attempt, StageResult
from behaviorlm_ray.stages.finding import StageOutput, find, output_in
from behaviorlm_ray.stages.leftovers import remove_unneeded, remove_written
from behaviorlm_ray.stages.manifests import Manifest, decode_manifest, encode_manifest


def commit(attempt: Attempt, result: StageResult, report: Callable[[str], None]) -> StageOutput:
    """The output of the attempt's stage: what it wrote, unless another attempt that verifies got there first.

    Removes what nothing needs any more. Raises StorageError if the lease is lost, or was for a while, and whoever took
    it has not committed yet.
    """
    committed = _put_in_place(attempt, attempt.manifest(result))
    if committed.manifest.attempt != attempt.name:
        report(
            f"{attempt.identity.name}: another process committed first; its output is used, this attempt removed"
        )
        remove_unneeded(attempt.output)
    elif attempt.found.content is None or attempt.found.attempt:
        remove_written(attempt.earlier)  # else one of them may be an output that is still read
    for folder in (attempt.checkpoints, *attempt.earlier_checkpoints):
        remove_unneeded(folder)
    return committed


def _put_in_place(attempt: Attempt, manifest: Manifest) -> StageOutput:
    path, content = attempt.identity.folder / "manifest.json", encode_manifest(manifest)
    decode_manifest(content)  # What does not read back must fail here, not at the next run.
    damaged = attempt.found.content
    while True:
        try:
            attempt.lease.check()
        except StorageError:
            found = find(attempt.identity)
            if found.output is None:
                raise
            return found.output
        if damaged is None:
            written = storage.write_exclusive(path, content)
        else:
            written = storage.replace_if(path, content, damaged)
        if written:
            return output_in(attempt.output, manifest, reused=False)
        found = find(attempt.identity)
        if found.output is not None:
            return found.output
        damaged = found.content
