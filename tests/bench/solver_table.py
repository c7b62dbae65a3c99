"""solver_table.py LINES...: the tables of docs/solvers.md from the JSON lines of solver_bench and scipy_cg.py."""

import collections
import json
import pathlib
import sys

lines = [json.loads(line) for path in sys.argv[1:] for line in pathlib.Path(path).read_text().splitlines()]
of_kind = collections.defaultdict(list)
for line in lines:
    of_kind[line["kind"]].append(line)


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def reached(line):
    """One rule for all solvers: the true residual, in float64."""
    return line["residual"] <= 1.05 * line["tolerance"]


def cell(line):
    if line is None:
        return "-"
    done = reached(line)
    text = f"{line['iterations']}, {line['seconds']:.2f} s"
    return text if done else f"{text}, only {line['residual']:.0e}"


def tolerances(rows, key):
    by_key = collections.defaultdict(dict)
    for line in rows:
        by_key[key(line)][line["tolerance"]] = line
    return by_key


print("Iterations and seconds (making the preconditioner included) until the true residual, largest of the layers:\n")
for damping in sorted({line["damping"] for line in of_kind["solve"]}):
    print(f"Damping {damping:g}\n")
    rows = tolerances([line for line in of_kind["solve"] if line["damping"] == damping],
                      lambda line: (line["group"], line["items"], line["preconditioner"], line["precision"]))
    table(["layers", "preconditioner", "precision", "1e-3", "1e-5", "1e-8"],
          [[f"{items} of {group}", name, precision, *(cell(found.get(t)) for t in (1e-3, 1e-5, 1e-8))]
           for (group, items, name, precision), found in rows.items()])

if of_kind["share"]:
    print("An iteration beside plain products of the same shapes:\n")
    table(["layers", "preconditioner", "precision", "iteration", "products alone", "share"],
          [[f"{line['items']} of {line['group']}", line["preconditioner"], line["precision"], f"{1e3 * line['iteration']:.2f} ms",
            f"{1e3 * line['plain']:.2f} ms", f"{100 * line['share']:.0f} %"] for line in of_kind["share"]])

if of_kind["memory"]:
    print("Memory that merging a group takes, against what groups are formed by:\n")
    table(["layers", "bound", "peak", "ratio"],
          [[f"{line['items']} of {line['group']}", f"{line['bound'] / 2**20:.0f} MiB", f"{line['peak'] / 2**20:.0f} MiB",
            f"{line['peak'] / line['bound']:.2f}"] for line in of_kind["memory"]])

if of_kind["scipy"]:
    first = [line for line in of_kind["scipy"] if line["item"] == 0]
    print("SciPy, one layer at a time, without preconditioner:\n")
    rows = tolerances(first, lambda line: (line["group"], line["damping"], line["solver"], line["dtype"]))
    table(["layer", "damping", "solver", "precision", "1e-3", "1e-5", "ms an iteration"],
          [[group, f"{damping:g}", solver, dtype, cell(found.get(1e-3)), cell(found.get(1e-5)),
            f"{1e3 * found[1e-3]['seconds'] / max(found[1e-3]['iterations'], 1):.2f}"]
           for (group, damping, solver, dtype), found in rows.items()])
    print("An iteration without preconditioner, one layer:\n")
    times = collections.defaultdict(dict)
    for line in first:
        if line["damping"] == 1 and line["solver"] == "cg" and line["tolerance"] == 1e-5:
            times[line["group"]]["SciPy", line["dtype"]] = line["seconds"] / max(line["iterations"], 1)
    for line in of_kind["share"]:
        if line["items"] == 1 and line["preconditioner"] == "none":
            times[line["group"]]["here", line["precision"]] = line["iteration"]
    table(["layer", "SciPy, float32", "here, float32", "ratio", "SciPy, float64", "here, float64", "ratio"],
          [[group, *(text for dtype in ("float32", "float64") for text in
                     (f"{1e3 * of['SciPy', dtype]:.2f} ms", f"{1e3 * of['here', dtype]:.2f} ms",
                      f"{of['SciPy', dtype] / of['here', dtype]:.1f}"))]
           for group, of in times.items() if len(of) == 4])
    print("Against it, same layer, same run: seconds of SciPy (float32) by seconds here (kronecker_trace, float64):\n")
    ours = {(line["group"], line["damping"], line["tolerance"]): line for line in of_kind["solve"]
            if line["preconditioner"] == "kronecker_trace" and line["precision"] == "float64" and line["items"] == 1}
    table(["layer", "damping", "to", "SciPy", "here", "ratio"],
          [[line["group"], f"{line['damping']:g}", f"{line['tolerance']:.0e}", cell(line), cell(here),
            f"{line['seconds'] / here['seconds']:.0f}" + ("" if reached(line) else " or more")]
           for line in first if line["solver"] == "cg" and line["dtype"] == "float32"
           for here in [ours.get((line["group"], line["damping"], line["tolerance"]))] if here])
