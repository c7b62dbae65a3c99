"""Files that are there whole or not at all."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import ExportError


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`: what is in it at the end moves to the target's folder, in the place of what has these
    names there; if an exception ends it, nothing moves."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ExportError(f"{target}: cannot be written ({error.strerror}); give another place") from error
    try:
        yield folder
        for path in sorted(folder.iterdir()):
            final = target.parent / path.name
            if final.is_dir():
                shutil.rmtree(final)
            path.replace(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
