"""What a caller can get wrong."""

import difflib
from collections.abc import Iterable


class ExportError(Exception):
    """Says what was wrong, where, and what to do; ends the command with exit code 1."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """" (did you mean 'x'?)", or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean '{near[0]}'?)" if near else ""
