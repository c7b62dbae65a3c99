"""How amalgam and mergekit are called."""

import json
from pathlib import Path

from methods import Method


def weights(method: Method, experts: list[Path]) -> list[float]:
    return [round(1 / (number + 1), 3) if "WEIGHTS" in method.ours else 1.0 for number in range(len(experts))]


def amalgam(program: str, method: Method, base: Path, experts: list[Path], output: Path, threads: int) -> list[str]:
    named = [part for expert in experts for part in ("--expert", str(expert))]
    entry = method.ours.replace("WEIGHTS", str(weights(method, experts)))
    return [program, "checkpoints", "--base", str(base), *named, "--method", entry, "--output", str(output), "--device", "cpu", "--quiet",
            "--threads", str(threads)]


def mergekit(program: str, method: Method, base: Path, experts: list[Path], output: Path, threads: int) -> list[str]:
    """It computes in float32 and stores bfloat16, as amalgam. The configuration, JSON being YAML, lies beside the output."""
    parameters = dict(method.theirs)
    models = [{"model": str(expert), **({"parameters": {"weight": weight}} if method.weight else {})}
              for expert, weight in zip(experts, weights(method, experts))]
    about = {"merge_method": parameters.pop("merge_method"), "models": models, "dtype": "float32", "out_dtype": "bfloat16"}
    if parameters:
        about["parameters"] = parameters
    if method.base != "none":
        about["base_model"] = str(base if method.base == "base" else experts[0])
    configuration = output.with_suffix(".mergekit.json")
    configuration.write_text(json.dumps(about))
    return [program, str(configuration), str(output), "--no-copy-tokenizer", "--no-write-model-card", "--quiet", "--random-seed", "0",
            "--num-threads", str(threads)]
