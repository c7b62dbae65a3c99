"""Runs programs and looks at their memory, and reads and writes files plainly, for comparison."""

import os
import resource
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

CHUNK = 8 << 20


@dataclass
class Run:
    seconds: float
    processor: float = 0.0  # seconds of all threads
    peak: float = 0.0  # GB: all pages, those of mapped files too
    anonymous: float = 0.0  # GB: what the program holds itself


def forget(files: list[Path]) -> None:
    """The files leave the kernel's cache, so that the next one who reads them reads the disk."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def watch(process: subprocess.Popen, run: Run) -> None:
    """Peaks by looking ten times a second."""
    while process.poll() is None:
        try:
            lines = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            run.peak = max(run.peak, int(lines["VmHWM"].split()[0]) / 1e6)
            run.anonymous = max(run.anonymous, int(lines["RssAnon"].split()[0]) / 1e6)
        except (KeyError, FileNotFoundError, ProcessLookupError):
            pass
        time.sleep(0.1)


def measured(command: list[str], output: Path, environment: dict[str, str] | None = None) -> Run:
    """Until what it wrote is on the disk."""
    run = Run(0.0)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | (environment or {}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    watcher = threading.Thread(target=watch, args=(process, run))
    watcher.start()
    said = process.communicate()[0]
    watcher.join()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{said}")
    sync(output)
    run.seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    run.processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return run


def read_all(files: list[Path]) -> None:
    buffer = bytearray(CHUNK)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def write_plain(path: Path, size: int) -> None:
    chunk = os.urandom(CHUNK)
    with path.open("wb", buffering=0) as file:
        for begin in range(0, size, CHUNK):
            file.write(chunk[: size - begin])
        os.fsync(file.fileno())
    path.unlink()


def plainly(inputs: list[Path], output: Path, size: int) -> float:
    """Seconds to read the files and, meanwhile, to write as much as one model takes."""
    began = time.perf_counter()
    reader = threading.Thread(target=read_all, args=(inputs,))
    reader.start()
    write_plain(output, size)
    reader.join()
    return time.perf_counter() - began
