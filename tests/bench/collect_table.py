"""collect_table.py BENCH NAIVE: one table of what statistics cost, from the JSON of collect_bench and naive_collect.py."""

import collections
import json
import pathlib
import statistics
import sys

times = collections.defaultdict(list)
resident = {}
for run in json.loads(pathlib.Path(sys.argv[1]).read_text())["benchmarks"]:
    if run["run_type"] == "iteration":
        name = run["name"].removesuffix("/real_time")
        times[name].append(run["real_time"])
        if "resident_MiB" in run:
            resident[name] = run["resident_MiB"]
naive = json.loads(pathlib.Path(sys.argv[2]).read_text())
of = {name: statistics.median(values) for name, values in times.items()}

columns = ["forward", "fwd+bwd", "input_gram", "kronecker", "squared", "all", "added/half", "all/fwd+bwd", "naive gram", "naive kron", "naive sq", "naive all"]
print(f"{'model / batch':24}" + "".join(f"{column:>13}" for column in columns))
def order(name):
    work, model, number = name.split("/")
    return model, int(number)


for name in sorted(of, key=order):
    work, model, batch = name.split("/")
    if work != "forward":
        continue

    def time(kind):
        return of[f"{kind}/{model}/{batch}"]

    kinds = ("input_gram", "kronecker", "squared_gradient", "all")
    collected = [time("collect_" + kind) for kind in kinds]
    added = (collected[0] - time("forward")) / (time("full_products") / 2)
    row = [f"{value:.1f} ms" for value in [time("forward"), time("forward_backward"), *collected]]
    row += [f"{added:.2f}", f"{collected[3] / time('forward_backward'):.2f}"]
    row += [f"{naive[f'{kind}/{model}'] / value:.1f} x" for kind, value in zip(kinds, collected)]
    print(f"{model + ' / ' + batch:24}" + "".join(f"{value:>13}" for value in row))
print("\nadded/half: what collecting input Gram matrices adds to a forward pass, by half the time of the plain products.")
print("naive: the plain way's time (batch size 1, Python hooks), by ours.\n")
for name in sorted(of, key=order):
    work, model, examples = name.split("/")
    if work == "examples":
        print(f"{model}, {examples:>4} examples, everything, batches of 8: {of[name] / int(examples):8.2f} ms an example, {resident[name]:6.0f} MiB resident")
