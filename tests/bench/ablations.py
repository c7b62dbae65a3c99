"""ablations.py RUN... --set NAME [options]: what one choice changes, all else equal, on the experts of finished runs.

Each RUN is the folder of a finished run (its experts, its resolved recipe); several are seeds of one suite. For each choice of statistics
a recipe beside the others in --runs takes the runs' experts as they are, merges and scores; finished parts are kept. Printed is a Markdown
table: mean normalised score of each line over the tasks and seeds, the seeds' spread, and the difference to the first line with a 95 %
interval of a paired bootstrap, over seeds and, within each, over examples. What is chosen on val is named as such.

    tests/bench/ablations.py runs/quickstart runs/quickstart-1 runs/quickstart-2 --set estimator
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
from dataclasses import dataclass, field

import numpy
import yaml
from safetensors.numpy import load_file

REGMEAN = {"method": "regmean"}
DRAWS = 2000


@dataclass(frozen=True)
class Line:
    name: str
    method: dict  # as under `merge`
    statistics: dict = field(default_factory=dict)  # what differs from the runs' own

    def statistics_name(self) -> str:
        return "-".join(f"{key}-{value}" for key, value in sorted(self.statistics.items())) or "own"


def mats(**options: object) -> dict:
    return {"method": "mats", **options}


def published(**options: object) -> dict:
    """As in Tam, Bansal & Raffel 2023, but for what is given."""
    return mats(**{"preconditioner": "none", "off_diagonal": 1, "damping": 0, "normalise": "rows", **options})


def damped(**options: object) -> dict:
    """With whole factors and damping 10, but for what is given."""
    return mats(**{"off_diagonal": 1, "damping": 10, **options})


def arithmetic(scale: float) -> dict:
    return {"method": "task_arithmetic", "scale": scale}


STARTS = {"zero": "zero", "average": "average", "base": "base", **{f"task arithmetic, {s}": arithmetic(s) for s in (0.1, 0.3, 0.5)}}
SETS = {
    "starts": [Line("regmean", REGMEAN)] + [
        line for name, init in STARTS.items() for line in (
            Line(f"published, from {name}", published(init=init)),
            Line(f"published, 20 steps from {name}", published(init=init, iterations=20)),
            Line(f"default, from {name}", mats(init=init)))],
    "lambda": [Line("regmean", REGMEAN)] + [
        line for value in (0.0, 0.25, 0.5, 0.75, 0.9, 1.0) for line in (
            Line(f"regmean, λ {value}", {**REGMEAN, "off_diagonal": value}),
            Line(f"published, λ {value}", published(off_diagonal=value)),
            Line(f"damped, λ {value}", damped(off_diagonal=value)),
            Line(f"default, λ {value}", mats(off_diagonal=value)))],
    "off_diagonal": [Line("regmean", REGMEAN), Line("damped", damped()), Line("published", published())] + [
        Line(name, method) for name, method in {
            **{f"default, λ {value}": mats(off_diagonal=value) for value in (0.7, 0.8, 0.9, 0.95)},
            "default, λ 0.9 of A alone": mats(off_diagonal_of="inputs"),
            "default, λ 0.9 of B alone": mats(off_diagonal_of="outputs"),
            "default, by rows": mats(normalise="rows"),
            "default, not normalised": mats(normalise="none"),
            **{f"default, damping {value:g}": mats(damping=value) for value in (0, 0.01, 1)},
            "published, λ 0.9, of B alone": published(off_diagonal=0.9, off_diagonal_of="outputs"),
            "published, λ 0.9, of A alone": published(off_diagonal=0.9, off_diagonal_of="inputs"),
            "published, λ 0.9, 30 steps": published(off_diagonal=0.9, iterations=30),
            "published, λ 0.9, 300 steps": published(off_diagonal=0.9, iterations=300)}.items()],
    "iterations": [Line("regmean", REGMEAN)] + [
        Line(f"published, {steps} steps", published(iterations=steps)) for steps in (1, 2, 5, 10, 20, 50, 100, 200)],
    "examples": [Line("regmean", REGMEAN)] + [
        line for count in (10, 30, 100, 300, 1000) for line in (
            Line(f"regmean, {count} examples", REGMEAN, {"examples": count}),
            Line(f"default, {count} examples", mats(), {"examples": count}),
            Line(f"damped, {count} examples", damped(), {"examples": count}))],
    "labels": [Line("regmean", REGMEAN)] + [
        line for labels in ("true", "sampled", "exact") for line in (
            Line(f"default, {labels} labels", mats(), {"labels": labels}),
            Line(f"damped, {labels} labels", damped(), {"labels": labels}))] + [
        Line("default, held out", mats(), {"split": "val"}), Line("default, temperature 4", mats(), {"temperature": 4.0})],
    "estimator": [Line("regmean", REGMEAN)] + [
        Line(f"true labels: {name}", method) for name, method in {
            **{f"{n}, damping {d:g}": damped(normalise=n, damping=d) for n in ("none", "trace", "outputs") for d in (0, 0.1, 1, 10)},
            **{f"outputs, pooling {p:g}, damping 0.1": damped(normalise="outputs", pooling=p, damping=0.1) for p in (0.5, 0.9)},
            "outputs, oas": damped(normalise="outputs", shrinkage="oas", damping=0),
            "outputs, oas, pooling 0.5": damped(normalise="outputs", shrinkage="oas", pooling=0.5, damping=0),
            "none, oas": damped(normalise="none", shrinkage="oas", damping=0),
            "trace, damping on val": damped(search={"damping": [1, 10, 100, 1000]}),
            "outputs, damping on val": damped(normalise="outputs", search={"damping": [0, 0.1, 1, 10, 1000]})}.items()] + [
        Line(f"{how}: {name}", method, statistics)
        for how, statistics in {"held out": {"split": "val"}, "temperature 4": {"temperature": 4.0},
                                "sampled": {"labels": "sampled"}, "exact": {"labels": "exact"}}.items()
        for name, method in {"trace, damping 10": damped(), "none, damping 1": damped(normalise="none", damping=1),
                             "outputs, damping 1": damped(normalise="outputs", damping=1),
                             "outputs, oas": damped(normalise="outputs", shrinkage="oas", damping=0)}.items()],
    "damping": [Line("regmean", REGMEAN), Line("average", {"method": "average"})] + [
        Line(f"{name}, damping {damping:g}", damped(normalise=name, damping=damping))
        for name, dampings in {"trace": (1, 3, 10, 30, 100), "outputs": (1, 10, 100), "none": (1, 10, 100)}.items() for damping in dampings],
    "each": [Line("regmean", REGMEAN), Line("default", mats()), Line("from zero", mats(init="zero"))] + [
        Line(f"λ {value:g}", mats(off_diagonal=value)) for value in (0, 1)] + [
        Line("published, 20 steps", published(iterations=20, init=arithmetic(0.3)))] + [
        line for count in (10, 100) for line in (Line(f"regmean, {count} examples", REGMEAN, {"examples": count}),
                                                 Line(f"{count} examples", mats(), {"examples": count}))],
    "short": [Line("regmean", REGMEAN), Line("average", {"method": "average"}), Line("default", mats()), Line("damped", damped())],
}


def recipe_of(run: pathlib.Path, name: str, lines: list[Line], examples: int) -> dict:
    """The run's recipe with its models as files, these rows, and predictions."""
    recipe = yaml.safe_load((run / "recipe.resolved.yaml").read_text())
    recipe["name"] = name
    recipe.pop("donors", None)
    if not recipe["base"]["model"]:
        recipe["base"] = {"model": str(run / "base.pt")}
    for task in recipe["tasks"]:
        if not task["expert"]["model"]:
            task["expert"] = {"model": str(run / "experts" / f"{task['name']}.pt")}
        if "options" in task["expert"]:
            del task["expert"]["options"]
    recipe["statistics"].update({"kinds": ["kronecker"], **lines[0].statistics})
    recipe["merge"] = [{"name": line.name, **line.method} for line in lines]
    recipe["evaluate"] = {"splits": ["test"], "batch": recipe["evaluate"]["batch"], "examples": examples, "predictions": True}
    recipe["report"] = {"title": name}
    return recipe


def right_of(folder: pathlib.Path, row: str, task: str) -> numpy.ndarray:
    """1 for each example whose class is right."""
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", row).rstrip("-")  # as apps/run_folder.cpp names files
    tensors = load_file(folder / "predictions" / stem / f"{task}.test.safetensors")
    return (tensors["prediction"] == tensors["target"]).astype(numpy.int64)


@dataclass
class Seed:
    """Of one run: which examples of each task are right, by line, and the experts' accuracies."""
    right: dict[str, list[numpy.ndarray]]
    expert: list[float]

    def score(self, line: str) -> float:
        return float(numpy.mean([right.mean() / expert for right, expert in zip(self.right[line], self.expert)]))


def run_seed(arguments: argparse.Namespace, run: pathlib.Path, lines: list[Line]) -> Seed:
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(line.statistics_name(), []).append(line)
    seed = Seed({}, [])
    for statistics, group in groups.items():
        name = f"{run.name}-{arguments.set}-{statistics}"
        recipe = recipe_of(run, name, group, arguments.examples)
        path = arguments.runs / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
        print(f"{name}: {len(group)} lines", file=sys.stderr, flush=True)
        subprocess.run([arguments.amalgam, "run", path, "--runs", arguments.runs, "--threads", str(arguments.threads)], check=True,
                       stdout=subprocess.DEVNULL)
        folder = arguments.runs / name
        tasks = [task["name"] for task in recipe["tasks"]]
        for line in group:
            seed.right[line.name] = [right_of(folder, line.name, task) for task in tasks]
        if not seed.expert:
            seed.expert = [float(right_of(folder, "expert", task).mean()) for task in tasks]
    return seed


def interval(seeds: list[Seed], line: str, reference: str) -> tuple[float, float]:
    """Of the mean difference: seeds are drawn with replacement, then examples of each task, the same for both lines."""
    generator = numpy.random.default_rng(0)
    draws = numpy.zeros((len(seeds), DRAWS))
    for s, seed in enumerate(seeds):
        for right, other, expert in zip(seed.right[line], seed.right[reference], seed.expert):
            difference = right - other
            counts = numpy.array([(difference == value).sum() for value in (-1, 0, 1)])
            drawn = generator.multinomial(counts.sum(), counts / counts.sum(), DRAWS)  # as often as there are examples
            draws[s] += (drawn[:, 2] - drawn[:, 0]) / counts.sum() / expert / len(seed.expert)
    chosen = generator.integers(len(seeds), size=(len(seeds), DRAWS))
    means = numpy.take_along_axis(draws, chosen, axis=0).mean(axis=0)
    low, high = numpy.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def table(seeds: list[Seed], lines: list[Line]) -> str:
    reference = lines[0].name
    base = numpy.mean([seed.score(reference) for seed in seeds])
    rows = ["| line | mean normalised | seeds | above " + reference + " | 95 % interval |", "| --- | --- | --- | --- | --- |"]
    for line in lines:
        scores = [seed.score(line.name) for seed in seeds]
        mean = numpy.mean(scores)
        text = [line.name, f"{100 * mean:.1f}", " ".join(f"{100 * score:.1f}" for score in scores)]
        if line.name == reference:
            text += ["", ""]
        else:
            low, high = interval(seeds, line.name, reference)
            difference = f"{100 * (mean - base):+.1f}"
            text += [f"**{difference}**" if low > 0 or high < 0 else difference, f"{100 * low:+.1f} … {100 * high:+.1f}"]
        rows.append("| " + " | ".join(text) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, nargs="+", help="folders of finished runs, seeds of one suite")
    parser.add_argument("--set", required=True, choices=sorted(SETS))
    parser.add_argument("--amalgam", default="build/release/amalgam", help="the program")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/ablations"), help="where the runs of the ablation lie")
    parser.add_argument("--examples", type=int, default=2000, help="of each task's test split, drawn by the recipe's seed; 0: all")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    lines = SETS[arguments.set]
    seeds = [run_seed(arguments, run.resolve(), lines) for run in arguments.run]
    print(table(seeds, lines))
    record = {line.name: [seed.score(line.name) for seed in seeds] for line in lines}
    (arguments.runs / f"{arguments.run[0].name}-{arguments.set}.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
