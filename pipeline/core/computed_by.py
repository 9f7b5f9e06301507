"""What computed an artifact: kept with it, since rounding depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.core.params import Settings

if TYPE_CHECKING:
    from torch import device as Device


class ComputedBy(Settings):
    """What the last bits of an artifact depend on, besides the processor and the number of threads.

    Attributes:
        device: ``cpu``, or the name of the GPU.
        torch: its version.
        precision: of the arithmetic.
        batch: images per evaluation, or per step of a training.
    """

    device: str
    torch: str
    precision: str
    batch: int

    @classmethod
    def here(cls, device: Device, batch: int, precision: str = "float32") -> ComputedBy:
        """Return what computes on a device in this process."""
        import torch

        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return cls(device=name, torch=torch.__version__.partition("+")[0], precision=precision, batch=batch)
