"""What is measured: methods as `amalgam checkpoints` and mergekit take them, and what is known to differ between the two."""

from dataclasses import dataclass

from definitions import NORMS, TIES_AND_SMALL_CHANGES, Difference


@dataclass(frozen=True)
class Method:
    ours: str  # WEIGHTS stands for a list, one an expert
    theirs: dict | None = None  # mergekit's method and parameters; None where it has nothing like it
    experts: int = 0  # how many it takes; 0: all
    base: str = "base"  # of mergekit: "base", "first" (the first expert stands in its place) or "none"
    weight: bool = True  # mergekit wants a weight of each expert
    draws: bool = False  # at random: values cannot be compared
    choice: str = ""  # how elements are chosen, where equal ones can be told apart in either way: agreement.py
    known: Difference | None = None  # what each program makes of a tensor, where that is known not to be the same


METHODS = {
    "average": Method("average", {"merge_method": "linear"}, base="none"),
    "linear": Method("{method: linear, weights: WEIGHTS}", {"merge_method": "linear"}, base="none"),
    "task_arithmetic": Method("{method: task_arithmetic, scale: 0.3}", {"merge_method": "task_arithmetic", "lambda": 0.3}),
    "slerp": Method("{method: slerp, t: 0.4}", {"merge_method": "slerp", "t": 0.4}, experts=2, base="first", weight=False),
    "model_stock": Method("model_stock", {"merge_method": "model_stock"}, weight=False, known=NORMS),
    "karcher": Method("karcher", {"merge_method": "karcher"}, base="none", weight=False),
    "ties": Method("{method: ties, density: 0.2}"),
    "ties_by_tensor": Method("{method: ties, density: 0.2, trim: tensor}", {"merge_method": "ties", "density": 0.2}, choice="largest 0.2"),
    "dare_ties": Method("{method: dare, drop: 0.8, inner: {method: ties, density: 1, trim: tensor}}",
                        {"merge_method": "dare_ties", "density": 0.2}, draws=True),
    "dare_drops_nothing": Method("{method: dare, drop: 0, inner: {method: ties, density: 1, trim: tensor}}",
                                 {"merge_method": "dare_ties", "density": 1.0}),
    "della": Method("{method: della, drop: 0.5, window: 0.2, scale: 0.3}",
                    {"merge_method": "della", "density": 0.5, "epsilon": 0.1, "lambda": 0.3}, draws=True),
    "della_drops_nothing": Method("{method: della, drop: 0, window: 0, scale: 0.3}",
                                  {"merge_method": "della", "density": 1.0, "lambda": 0.3}),
    "breadcrumbs": Method("{method: breadcrumbs, density: 0.1, outliers: 0.01, scale: 0.3}",
                          {"merge_method": "breadcrumbs", "density": 0.1, "gamma": 0.01, "lambda": 0.3}, choice="between 0.01 0.1"),
    "sce": Method("{method: sce, density: 0.1}", {"merge_method": "sce", "select_topk": 0.1}, weight=False, known=TIES_AND_SMALL_CHANGES),
    "sce_selects_all": Method("sce", {"merge_method": "sce"}, weight=False),
    "pcb": Method("pcb"),
}
