"""peers.py RUN STATISTICS BASE.pt MODELS: the merged models of a run beside what mergekit, FusionBench and plain PyTorch make of the same
experts, and how long each takes. MODELS holds `base` and a folder for each task, as `amalgam_export hf` writes them; peers.sh makes all
that. Prints a Markdown table."""

import sys
from pathlib import Path

import fusion_bench_peer
import mergekit_peer
import plain_peer
import torch
from amalgam_export.compare import distance
from result import Result
from run_folder import Inputs, Row, Tensors, read_rows

PEERS = {"mergekit": mergekit_peer, "FusionBench": fusion_bench_peer, "plain PyTorch": plain_peer}
ROUNDING = 16  # eps of a tensor's largest value: a few sums in another order


def worst(given: Tensors, expected: Tensors) -> tuple[float, str, int]:
    """The greatest distance over the tensors in eps of the tensor's largest value, which it is, and how many are above ROUNDING."""
    found = {name: distance(given[name], tensor) for name, tensor in expected.items() if name in given}
    name = max(found, key=found.get)
    return found[name], name, sum(value > ROUNDING for value in found.values())


def change(tensors: Tensors, base: Tensors) -> float:
    """‖θ − θ0‖ over all tensors of the base that are there."""
    return sum((tensors[name].double() - base[name].double()).square().sum() for name in base if name in tensors).sqrt().item()


def line(row: Row, peer: str, result: Result, base: Tensors) -> list[str]:
    common = [name for name in row.tensors if name in result.tensors]
    if result.random:
        ours, theirs = change({name: row.tensors[name] for name in common}, base), change(result.tensors, base)
        differs, where = f"‖change‖ {ours:.4g} and {theirs:.4g}", "draws of its own; " + result.why
    else:
        far, name, above = worst(result.tensors, row.tensors)
        differs = f"{far:.3g} eps"
        where = "" if far <= ROUNDING else f"{above} tensors, most `{name}`: {result.why or 'unexplained'}"
    seconds = [f"{row.merging:.2f}", f"{result.merging:.2f}", f"{row.whole:.2f}", "-" if result.whole is None else f"{result.whole:.2f}"]
    return [row.name, peer, f"{len(common)} of {len(row.tensors)}", differs, *seconds, where]


def main(run: Path, statistics: Path, base: Path, models: Path) -> None:
    torch.set_num_threads(1)
    rows = read_rows(run, base)
    tasks = rows[0].weights
    inputs = Inputs(models / "base", {task: models / task for task in tasks}, {task: statistics / f"{task}.safetensors" for task in tasks})
    base_tensors, _ = inputs.tensors({})
    print("| row | peer | tensors | greatest difference | merging here | there | with files here | there | above rounding |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for row in rows:
        found = {name: peer.merge(row, inputs) for name, peer in PEERS.items()}
        for name, result in found.items():
            if result is not None:
                print("| " + " | ".join(line(row, name, result, base_tensors)) + " |", flush=True)
        if not any(found.values()):
            print(f"| {row.name} | none has it | | | {row.merging:.2f} | | {row.whole:.2f} | | |", flush=True)


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:]))
