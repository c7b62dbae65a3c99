"""scaling.py AMALGAM FOLDER WIDTHxDEPTH...: what collecting and merging take for random BERT-like encoders. For each size two experts are
made by small seeded changes, 32 examples of 48 tokens are collected from each, and RegMean and MaTS merge them. Prints a JSON line a size.
In the place of all that, `table FILE...` makes a table of such lines, and `predict` one of what formulas say of known models: the tables of
docs/scaling.md."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

EXAMPLES, TOKENS, VOCABULARY, ITERATIONS, MEMORY = 32, 48, 8192, 3, "4GiB"
TASKS = ("one", "two")


def make_encoder(folder: Path, width: int, depth: int) -> int:
    """base.pt, and an expert a task; -> merged parameters."""
    import torch
    from amalgam_export.encoder import EncoderOptions, export_encoder
    from amalgam_export.quiet import quiet
    from amalgam_export.source import find_source
    from transformers import BertConfig, BertModel
    torch.manual_seed(0)
    with quiet():
        config = BertConfig(vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=depth, num_attention_heads=width // 64,
                            intermediate_size=4 * width, max_position_embeddings=128)
        BertModel(config, add_pooling_layer=False).save_pretrained(folder / "model")
    export_encoder(find_source(str(folder / "model")), folder / "base.pt", EncoderOptions({task: 2 for task in TASKS}))
    shutil.rmtree(folder / "model")
    for seed, task in enumerate(TASKS):
        expert = torch.jit.load(str(folder / "base.pt"))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in expert.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.002)  # a tenth of the weights' own size
        torch.jit.save(expert, str(folder / f"{task}.pt"))
    return sum(parameter.numel() for parameter in expert.body.parameters())


def make_data(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "val", "test"):
        folder.mkdir(exist_ok=True)
        save_file({"input.input_ids": torch.randint(VOCABULARY, (EXAMPLES, TOKENS), generator=generator),
                   "input.attention_mask": torch.ones(EXAMPLES, TOKENS, dtype=torch.int64),
                   "target": torch.randint(2, (EXAMPLES,), generator=generator)}, folder / f"{split}.safetensors")


def write_recipe(folder: Path) -> Path:
    tasks = "".join(f"  - {{name: {task}, output: {task}, data: {{format: tensors, root: {folder}/data}}, "
                    f"expert: {{model: {folder}/{task}.pt}}}}\n" for task in TASKS)
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"name: run\nbase: {{model: {folder}/base.pt}}\nprivate: ['heads.*']\ntasks:\n{tasks}"
                      f"statistics: {{examples: {EXAMPLES}, batch: 8, kinds: [kronecker], memory: {MEMORY}}}\n"
                      f"merge: [regmean, {{method: mats, iterations: {ITERATIONS}, tolerance: 0}}]\n")
    return recipe


def measured(*words: object) -> dict:
    """Of one command: seconds of its processor (one thread, so that a busy machine does not count) and peak memory."""
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"scaling: error: {' '.join(str(word) for word in words)} failed")
    return {"seconds": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss * 1024}


def measure(amalgam: str, folder: Path, width: int, depth: int) -> dict:
    folder.mkdir(parents=True)
    # In a process of its own: the system counts what this one holds into the peak of those that it starts.
    words = [sys.executable, "-W", "ignore", __file__, "make", str(folder), str(width), str(depth)]
    made = subprocess.run(words, check=True, stdout=subprocess.PIPE)
    found = {"width": width, "depth": depth, "parameters": int(made.stdout)}
    options = (write_recipe(folder), "--runs", folder / "runs", "--threads", 1, "--quiet")
    found["collect"] = measured(amalgam, "collect", *options)
    for method in ("regmean", "mats"):
        found[method] = measured(amalgam, "merge", *options, "--method", method)
        found[method]["merging"] = json.loads((folder / f"runs/run/merged/{method}.merge.json").read_text())["report"]["seconds"]
    found["statistics"] = sum(path.stat().st_size for path in (folder / "runs/run/statistics").iterdir()) // len(TASKS)
    return found


@dataclass(frozen=True)
class Block:
    """`count` blocks of linear layers [out, in]; layers of one input have one Gram matrix of it, so `inputs` are the widths of those."""
    count: int
    inputs: tuple[int, ...]
    layers: tuple[tuple[int, int], ...]

    def numbers(self) -> int:
        """Of a task's K-FAC, Σ n² + Σ m²."""
        return self.count * (self.input_numbers() + sum(out**2 for out, _ in self.layers))

    def input_numbers(self) -> int:
        return sum(width**2 for width in self.inputs)

    def row_flops(self) -> float:
        """Forward and backward, 6 m n a layer, and half of every product with its transpose."""
        return 6 * self.count * sum(m * n for m, n in self.layers) + self.numbers()

    def regmean_flops(self, experts: int) -> float:
        return self.count * (sum((experts + 1) * 2 * m * n**2 for m, n in self.layers) + sum(n**3 / 3 for n in self.inputs))

    def mats_flops(self, experts: int) -> float:
        """Of a step: two products an expert, two of the preconditioner."""
        return self.count * (experts + 1) * sum(2 * m * n * (m + n) for m, n in self.layers)


def encoder(width: int, depth: int) -> list[Block]:
    """Query, key and value share an input; output, intermediate and output of the feed-forward have their own."""
    d, f = width, 4 * width
    return [Block(depth, (d, d, d, f), (*[(d, d)] * 4, (f, d), (d, f)))]


def known() -> dict[str, list[Block]]:
    d, f = 1024, 4096
    cross = Block(24, (d, d, d, d, d, f), (*[(d, d)] * 8, (f, d), (d, f)))  # the encoder's output, that all blocks share, is left out
    w, g = 4096, 14336
    return {"MiniLM, 384x6": encoder(384, 6), "BERT base, 768x12": encoder(768, 12), "ViT-L, 1024x24": encoder(1024, 24),
            "T5-large": [*encoder(1024, 24), cross],
            "decoder of 8 billion (Llama 3)": [Block(32, (w, w, w, g), ((w, w), (1024, w), (1024, w), (w, w), (g, w), (g, w), (w, g)))]}


def predict(experts: int = 8) -> None:
    print("| model | matrices | input Gram matrices | K-FAC | collecting, flop a token | RegMean, flop | MaTS, flop a step |")
    print("| --- |" + " ---: |" * 6)
    for name, blocks in known().items():
        parameters = sum(block.count * m * n for block in blocks for m, n in block.layers)
        inputs = 8 * sum(block.count * block.input_numbers() for block in blocks)
        cells = [name, f"{parameters / 1e6:.0f} M", f"{inputs / 1e9:.2f} GB", f"{8 * sum(block.numbers() for block in blocks) / 1e9:.2f} GB",
                 f"{sum(block.row_flops() for block in blocks):.1e}", f"{sum(block.regmean_flops(experts) for block in blocks):.1e}",
                 f"{sum(block.mats_flops(experts) for block in blocks):.1e}"]
        print("| " + " | ".join(cells) + " |")


def table(lines: list[dict]) -> None:
    print("| encoder | parameters | statistics a task, predicted | measured | collecting, s an example | peak | RegMean, s | peak | MaTS, "
          f"{ITERATIONS} steps, s | peak |")
    print("| --- |" + " ---: |" * 9)
    for of in lines:
        expected = 8 * sum(block.numbers() for block in encoder(of["width"], of["depth"]))
        cells = [f"{of['width']}x{of['depth']}", f"{of['parameters'] / 1e6:.1f} M", f"{expected / 1e9:.3f} GB", f"{of['statistics'] / 1e9:.3f} GB",
                 f"{of['collect']['seconds'] / (EXAMPLES * len(TASKS)):.2f}", f"{of['collect']['peak'] / 1e9:.2f} GB"]
        for method in ("regmean", "mats"):
            cells += [f"{of[method]['seconds']:.1f}", f"{of[method]['peak'] / 1e9:.2f} GB"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    if sys.argv[1] == "table":
        table([json.loads(line) for path in sys.argv[2:] for line in Path(path).read_text().splitlines()])
    elif sys.argv[1] == "predict":
        predict()
    elif sys.argv[1] == "make":
        made_in = Path(sys.argv[2])
        print(make_encoder(made_in, int(sys.argv[3]), int(sys.argv[4])))
        make_data(made_in / "data")
    else:
        for size in sys.argv[3:]:
            place = Path(sys.argv[2]).resolve() / size
            print(json.dumps(measure(sys.argv[1], place, *(int(number) for number in size.split("x")))), flush=True)
            shutil.rmtree(place)
