"""What a peer gives back, and its clock."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from run_folder import Tensors


@dataclass(frozen=True)
class Result:
    tensors: Tensors
    merging: float  # seconds, reading included
    whole: float | None  # seconds, with writing; None where it writes nothing
    random: bool = False  # draws of its own, so that only sizes can be compared
    why: str = ""  # of a difference above rounding


def timed(function: Callable, *arguments: object) -> tuple[object, float]:
    begin = time.perf_counter()
    value = function(*arguments)
    return value, time.perf_counter() - begin
