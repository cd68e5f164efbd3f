"""What lies below an error that Ray hands on, and whether memory was full: then nothing is worth another try."""

from collections.abc import Iterator

MEMORY_MARKS = (
    "MemoryError",  # Python's, NumPy's, and OutOfMemoryError: torch's, and Ray's where its monitor killed a process
    "CUDA out of memory",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
)
WRAPPED = ("cause", "health_check_failure", "controller_failure", "_base_exc")
"""Where errors of Ray and Ray Train keep the one that they wrap."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, the one below it, and so on down."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        wrapped = [getattr(error, name, None) for name in WRAPPED]
        error = next((each for each in wrapped if isinstance(each, BaseException)), error.__cause__)


def memory_problem(error: BaseException) -> str | None:
    """The line that says so where an error comes from full memory, else None.

    Looks at names and texts: from other processes, what lies below an error comes as text only.
    """
    for each in causes(error):
        told = f"{type(each).__name__}: {each}".splitlines()
        marked = [line.strip() for line in told if any(mark in line for mark in MEMORY_MARKS)]
        if marked:
            return marked[-1]
    return None
