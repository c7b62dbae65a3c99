"""Times and peak memory of `amalgam checkpoints` on generated models, beside the same methods of mergekit where it is installed, and beside plain
reading and writing of the same files. Prints the tables of docs/checkpoints.md.

    tests/bench/checkpoints/bench.sh FOLDER [--experts 8] [--gigabytes 2.5] [--methods average ties ...] [--keep]

Before each run the inputs leave the kernel's cache. A run ends when what it wrote is on the disk. Disk space: (experts + 3) models."""

import argparse
import shutil
import sys
from pathlib import Path

from models import write_model
from process import Run, forget, measured, plainly

METHODS = {  # options of amalgam, and how many experts it takes (0: all)
    "average": ("average", 0), "linear": ("{method: linear, weights: WEIGHTS}", 0), "task_arithmetic": ("{method: task_arithmetic, scale: 0.3}", 0),
    "slerp": ("{method: slerp, t: 0.4}", 2), "model_stock": ("model_stock", 0), "ties": ("{method: ties, density: 0.2}", 0),
    "ties_by_tensor": ("{method: ties, density: 0.2, trim: tensor}", 0), "dare_ties": ("{method: dare, drop: 0.8, inner: {method: ties, density: 1}}", 0),
    "sce": ("{method: sce, density: 0.1}", 0), "breadcrumbs": ("{method: breadcrumbs, density: 0.1, outliers: 0.01, scale: 0.3}", 0),
    "della": ("{method: della, drop: 0.5, window: 0.2, scale: 0.3}", 0)}


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def merge_command(program: str, base: Path, experts: list[Path], method: str, output: Path, threads: int) -> list[str]:
    entry, most = METHODS[method]
    chosen = experts[: most or len(experts)]
    weights = [round(1 / (number + 1), 3) for number in range(len(chosen))]
    return [program, "checkpoints", "--base", str(base), *(part for expert in chosen for part in ("--expert", str(expert))), "--method",
            entry.replace("WEIGHTS", str(weights)), "--output", str(output), "--device", "cpu", "--quiet", "--threads", str(threads)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--gigabytes", type=float, default=2.5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--keep", action="store_true", help="the models; a second call finds them")
    arguments = parser.parse_args()
    folder = arguments.folder
    base, experts = folder / "base", [folder / f"expert{number}" for number in range(1, arguments.experts + 1)]
    for number, path in enumerate([base, *experts]):
        if not path.exists():
            write_model(path, arguments.gigabytes, number)
    size = sum(path.stat().st_size for path in files_of(base))
    print(f"{arguments.experts} experts of {size / 1e9:.2f} GB in bfloat16, {arguments.threads} threads\n")
    print("| method | read, GB | s | of the disk | peak, GB | of it held, GB |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for method in arguments.methods:
        output = folder / "merged"
        command = merge_command(arguments.program, base, experts, method, output, arguments.threads)
        inputs = [file for part in command if part.startswith(str(folder)) and part != str(output) for file in files_of(Path(part))]
        forget(inputs)
        run: Run = measured(command, output)
        forget(inputs)
        floor = plainly(inputs, folder / "plain", size)
        print(f"| {method} | {sum(file.stat().st_size for file in inputs) / 1e9:.1f} | {run.seconds:.1f} | {100 * floor / run.seconds:.0f} % | "
              f"{run.peak:.2f} | {run.anonymous:.2f} |", flush=True)
        shutil.rmtree(output)
    if not arguments.keep:
        for path in [base, *experts]:
            shutil.rmtree(path)


if __name__ == "__main__":
    sys.exit(main())
