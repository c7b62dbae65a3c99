"""Whether two models compute the same."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from .errors import ExportError

# Of eps times the largest value. Original and export run the same kernels in one order and agree bit by bit as a rule; what is
# left is room for another order of sums.
TOLERANCE = 64


@dataclass(frozen=True)
class Batch:
    what: str  # "3 of length 17"
    inputs: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Agreement:
    batches: int
    worst: float  # difference / (eps * largest value)

    def __str__(self) -> str:
        return f"{self.batches} batches compared, largest difference {self.worst:.3g} eps (allowed: {TOLERANCE})"


def outputs_of(value: object, path: str = "output") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in what a model returned, by where it is."""
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from outputs_of(part, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for key, part in enumerate(value):
            yield from outputs_of(part, f"{path}.{key}")


def distance(given: torch.Tensor, expected: torch.Tensor) -> float:
    """In eps of the expected dtype times its largest value; infinite where shapes or dtypes differ or a value is not finite."""
    if given.shape != expected.shape or given.dtype != expected.dtype:
        return float("inf")
    if given.numel() == 0 or torch.equal(given, expected):
        return 0.0
    if not expected.is_floating_point():
        return float("inf")
    magnitude = expected.double().abs().max().item()
    error = (given.double() - expected.double()).abs().max().item()
    result = error / (torch.finfo(expected.dtype).eps * magnitude) if magnitude > 0 else float("inf")
    return result if result == result else float("inf")


def require_same(original: Callable, export: Callable, batches: Iterable[Batch], what: str) -> Agreement:
    """@throws ExportError where an output differs by more than TOLERANCE."""
    count, worst = 0, 0.0
    with torch.no_grad():
        for batch in batches:
            expected = dict(outputs_of(original(*batch.inputs)))
            try:
                given = dict(outputs_of(export(*batch.inputs)))
            except RuntimeError as error:
                raise ExportError(f"{what}: the export does not run on a batch of {batch.what}, and the original does: "
                                  f"{str(error).strip().splitlines()[-1]}") from error
            if given.keys() != expected.keys():
                raise ExportError(f"{what}: the export returns {', '.join(given)}, the original {', '.join(expected)}")
            for name, tensor in expected.items():
                if tensor.is_floating_point() and not tensor.isfinite().all():
                    raise ExportError(f"{what}: the original itself gives values that are not finite on a batch of {batch.what}")
                apart = distance(given[name], tensor)
                if apart > TOLERANCE:
                    raise ExportError(f"{what}: {name} differs by {apart:.3g} eps on a batch of {batch.what} (allowed: {TOLERANCE}); "
                                      "a trace has fixed what depends on the input's shape or values, so this model cannot be exported "
                                      "as it is")
                worst = max(worst, apart)
            count += 1
    return Agreement(count, worst)
