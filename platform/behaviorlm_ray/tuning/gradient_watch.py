"""Whether gradients are finite, looked at many at a time: a few launches a pack, not some for each parameter."""

import torch
from torch import Tensor

HELD_NUMEL = 1 << 26
"""Elements of gradients that are held until they are looked at: what a backward pass frees as it goes stays so long."""


class GradientWatch:
    """Flags gradients that are not finite. State: gradients not looked at yet, and the flag, on the device."""

    def __init__(self, device: torch.device) -> None:
        self._flag = torch.zeros((), dtype=torch.bool, device=device)
        self._held: list[Tensor] = []
        self._numel = 0

    def clear(self) -> None:
        """Forget what was found."""
        self._held, self._numel = [], 0
        self._flag.fill_(False)

    def add(self, gradient: Tensor) -> None:
        """A hook for parameters: takes note of a gradient as it comes."""
        if not gradient.numel():
            return
        # Detached, as engines put other memory behind the tensor that they were given.
        self._held.append(gradient.detach())
        self._numel += gradient.numel()
        if self._numel >= HELD_NUMEL:
            self.look()

    def look(self) -> Tensor:
        """Whether any gradient since the last `clear` was not finite; a bool on the device, which is not waited for."""
        if self._held:
            # the largest magnitude: NaN and infinities come through, and nothing else becomes one
            largest = torch.stack(torch._foreach_norm(self._held, float("inf")))
            self._flag.logical_or_(torch.isfinite(largest).logical_not().any())
            self._held, self._numel = [], 0
        return self._flag
