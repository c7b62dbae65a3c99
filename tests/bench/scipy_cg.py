"""scipy_cg.py SYSTEMS: the systems that solver_bench wrote, solved as the published way does: one layer at a time by SciPy's conjugate
gradients, without a preconditioner, in float32, each product a copy from NumPy into torch and back. JSON lines on standard output.
MINRES is counted beside it, in float64, to see whether it would win."""

import collections
import json
import sys
import time

import numpy
import scipy.sparse.linalg as linalg
import torch
from safetensors.torch import load_file

LIMIT = 4.0  # seconds a solve


class OutOfTime(Exception):
    pass


def solve(solver, terms, rhs, dtype, tolerance):
    """-> iterations, seconds, true relative residual in float64."""
    factors = [(a.to(dtype), b.to(dtype)) for a, b in terms]
    b = rhs.to(dtype).numpy().ravel()
    shape = rhs.shape

    def product(x):
        w = torch.from_numpy(numpy.asarray(x, dtype=b.dtype).reshape(shape))
        image = torch.zeros(shape, dtype=dtype)
        for a, left in factors:
            image += left @ w @ a
        return image.numpy().ravel()

    count, begin, last = 0, time.perf_counter(), numpy.zeros_like(b)

    def count_iteration(x):
        nonlocal count, last
        count, last = count + 1, x
        if time.perf_counter() - begin > LIMIT:
            raise OutOfTime

    operator = linalg.LinearOperator((b.size, b.size), matvec=product, dtype=b.dtype)
    try:
        last, _ = solver(operator, b, x0=numpy.zeros_like(b), rtol=tolerance, maxiter=3000, callback=count_iteration)
    except OutOfTime:
        pass
    seconds = time.perf_counter() - begin
    x = torch.from_numpy(numpy.asarray(last, dtype=numpy.float64).reshape(shape))
    image = sum(left @ x @ a for a, left in terms)
    return count, seconds, float((rhs - image).norm() / rhs.norm())


systems = collections.defaultdict(dict)
for name, tensor in load_file(sys.argv[1]).items():
    group, damping, item, part = name.split("|")
    systems[group, float(damping), int(item)][part] = tensor
for (group, damping, item), parts in sorted(systems.items(), key=lambda entry: entry[0]):
    count = sum(part.startswith("A") for part in parts)
    terms = [(parts[f"A{m}"], parts[f"B{m}"]) for m in range(count)]
    for name, solver, dtype in (("cg", linalg.cg, torch.float32), ("cg", linalg.cg, torch.float64), ("minres", linalg.minres, torch.float64)):
        for tolerance in (1e-3, 1e-5):
            iterations, seconds, residual = solve(solver, terms, parts["rhs"], dtype, tolerance)
            line = dict(kind="scipy", group=group, damping=damping, item=item, solver=name, dtype=str(dtype).removeprefix("torch."),
                        tolerance=tolerance, iterations=iterations, seconds=seconds, residual=residual)
            print(json.dumps(line), flush=True)
