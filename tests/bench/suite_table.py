"""suite_table.py RUN...: the table of docs/suites.md from finished runs, seeds of one suite.

For each row: mean normalised accuracy over tasks and seeds, each seed's, the worst task's (mean over seeds), and the difference to a
reference row with a 95 % interval of a paired bootstrap over seeds and, within each, over examples. The runs must have kept predictions
(`evaluate: {predictions: true}`) on test.

    tests/bench/suite_table.py runs/images8-0 runs/images8-1 runs/images8-2
"""

import argparse
import json
import pathlib

import numpy

from ablations import Seed, interval, right_of


def read_run(run: pathlib.Path) -> tuple[Seed, list[str], list[str]]:
    """@returns which examples are right; rows and tasks in the run's order"""
    lines = [json.loads(line) for line in (run / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line["split"] == "test"]
    rows, tasks = (list(dict.fromkeys(line[key] for line in lines)) for key in ("method", "task"))
    right = {row: [right_of(run, row, task) for task in tasks] for row in rows}
    return Seed(right, [float(examples.mean()) for examples in right["expert"]]), rows, tasks


def worst(seed: Seed, row: str) -> float:
    return min(float(right.mean()) / expert for right, expert in zip(seed.right[row], seed.expert))


def number(value: float, signed: bool = False) -> str:
    return f"{100 * value:{'+' if signed else ''}.1f}".replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, nargs="+", help="folders of finished runs, seeds of one suite")
    parser.add_argument("--reference", default="regmean", help="the row that others are compared with")
    arguments = parser.parse_args()
    read = [read_run(run) for run in arguments.run]
    seeds, (_, rows, tasks) = [seed for seed, _, _ in read], read[0]
    print("experts: " + ", ".join(f"{task} {number(numpy.mean([seed.expert[i] for seed in seeds]))}" for i, task in enumerate(tasks)) + "\n")
    print(f"| row | normalised | seeds | worst task | above {arguments.reference} | interval |\n| --- | ---: | --- | ---: | ---: | ---: |")
    reference = float(numpy.mean([seed.score(arguments.reference) for seed in seeds]))
    for row in rows:
        if row == "expert":
            continue
        scores = [seed.score(row) for seed in seeds]
        cells = [row, number(numpy.mean(scores)), " ".join(map(number, scores)), number(numpy.mean([worst(seed, row) for seed in seeds]))]
        if row == arguments.reference:
            cells += ["", ""]
        else:
            low, high = interval(seeds, row, arguments.reference)
            difference = number(numpy.mean(scores) - reference, signed=True)
            cells += [f"**{difference}**" if low > 0 or high < 0 else difference, f"{number(low, True)} … {number(high, True)}"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
