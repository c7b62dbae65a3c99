"""Times and peak memory of `amalgam checkpoints` on generated models, beside the same methods of mergekit and beside plain
reading and writing of the same files, and whether both programs make the same of them. Prints the tables of docs/checkpoints.md.

    tests/bench/checkpoints/bench.sh FOLDER [--experts 3] [--gigabytes 2.5] [--methods average ties ...] [--mergekit PATH/TO/mergekit-yaml]

Before each run the inputs leave the kernel's cache. A run ends when what it wrote is on the disk. The programs take turns, method by
method, with as many threads each. Disk space: (experts + 3) models."""

import argparse
import shutil
import statistics
import sys
from pathlib import Path

import agreement
import programs
from methods import METHODS, Method
from models import write_model
from process import Run, forget, measured, plainly


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def median(runs: list[Run]) -> Run:
    return Run(*(statistics.median(getattr(run, name) for run in runs) for name in ("seconds", "processor", "peak", "anonymous")))


class Bench:
    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.base = arguments.folder / "base"
        self.experts = [arguments.folder / f"expert{number}" for number in range(1, arguments.experts + 1)]
        self.ours, self.theirs = arguments.folder / "merged-amalgam", arguments.folder / "merged-mergekit"

    def write_models(self) -> None:
        for number, path in enumerate([self.base, *self.experts]):
            if not path.exists():
                write_model(path, self.arguments.gigabytes, number)

    def remove(self, folders: list[Path]) -> None:
        for path in folders:
            shutil.rmtree(path, ignore_errors=True)

    def run(self, method: Method) -> tuple[Run, Run | None, float]:
        """Of amalgam, of mergekit, and the seconds of plain reading and writing; the merged models stay."""
        experts = self.experts[: method.experts or len(self.experts)]
        ours = programs.amalgam(self.arguments.program, method, self.base, experts, self.ours, self.arguments.threads)
        inputs = [file for folder in [self.base, *experts] for file in files_of(folder)]
        threads = {"OMP_NUM_THREADS": str(self.arguments.threads)}
        of_ours, of_theirs, plain = [], [], []
        for _ in range(self.arguments.repeat):
            self.remove([self.ours, self.theirs])
            forget(inputs)
            of_ours.append(measured(ours, self.ours, threads))
            if method.theirs and self.arguments.mergekit:
                theirs = programs.mergekit(self.arguments.mergekit, method, self.base, experts, self.theirs, self.arguments.threads)
                forget(inputs)
                of_theirs.append(measured(theirs, self.theirs, threads | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}))
            forget(inputs)
            plain.append(plainly(inputs, self.arguments.folder / "plain", sum(path.stat().st_size for path in files_of(self.base))))
        return median(of_ours), median(of_theirs) if of_theirs else None, statistics.median(plain)

    def agreement(self, name: str, method: Method) -> str:
        experts = self.experts[: method.experts or len(self.experts)]
        if method.draws:
            ours, theirs = (agreement.change_norm(folder, self.base) for folder in (self.ours, self.theirs))
            return f"| {name} | draws of its own: ‖change‖ {ours:.4g} and {theirs:.4g} | | |"
        found = agreement.compare(self.ours, self.theirs, self.base, experts, method.choice, method.known)
        return (f"| {name} | {found.tensors - found.different} of {found.tensors} | {100 * found.beyond / found.elements:.3g} % | "
                f"{100 * found.unexplained / found.elements:.3g} % |")


def speed(name: str, ours: Run, theirs: Run | None, plain: float) -> str:
    there = ["-"] * 4
    if theirs:
        there = [f"{theirs.seconds:.1f}", f"{theirs.seconds / ours.seconds:.1f}", f"{theirs.processor:.1f}", f"{theirs.anonymous:.2f}"]
    return (f"| {name} | {ours.seconds:.1f} | {there[0]} | {there[1]} | {ours.processor:.1f} | {there[2]} | "
            f"{100 * plain / ours.seconds:.0f} % | {ours.anonymous:.2f} | {there[3]} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mergekit", help="its mergekit-yaml; without it amalgam alone is measured")
    parser.add_argument("--experts", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=2.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=1, help="medians of so many runs")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--keep", action="store_true", help="the models; a second call finds them")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    bench.write_models()
    size = sum(path.stat().st_size for path in files_of(bench.base))
    print(f"A base and {arguments.experts} experts of {size / 1e9:.2f} GB in bfloat16, threads: {arguments.threads}\n")
    print("| method | amalgam, s | mergekit, s | times | amalgam, s of a core | mergekit | of the disk | amalgam holds, GB | mergekit |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    agreements = []
    for name in arguments.methods:
        ours, theirs, plain = bench.run(METHODS[name])
        print(speed(name, ours, theirs, plain), flush=True)
        if theirs:
            agreements.append(bench.agreement(name, METHODS[name]))
        bench.remove([bench.ours, bench.theirs])
    print("\n| method | tensors alike | elements beyond rounding | of all elements: not accounted for |\n| --- | ---: | ---: | ---: |")
    print("\n".join(agreements))
    if not arguments.keep:
        bench.remove([bench.base, *bench.experts])


if __name__ == "__main__":
    sys.exit(main())
