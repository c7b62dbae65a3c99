"""Models of bfloat16 shards in the layout of Hugging Face, as large as asked for: a base and experts, each the base plus a small change."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

WIDTH, INNER, VOCABULARY = 2048, 5632, 32000  # of a language model of 1.1 billion parameters at 22 blocks
SHARD_BYTES = 1_000_000_000


def shapes(gigabytes: float) -> dict[str, tuple[int, ...]]:
    """Tensors of a language model with as many blocks as fit, in its order."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    left = gigabytes * 1e9 / 2 - 2 * VOCABULARY * WIDTH
    block = {"input_layernorm": (WIDTH,), "post_attention_layernorm": (WIDTH,), "mlp.gate_proj": (INNER, WIDTH), "mlp.up_proj": (INNER, WIDTH),
             "mlp.down_proj": (WIDTH, INNER), "self_attn.q_proj": (WIDTH, WIDTH), "self_attn.k_proj": (256, WIDTH),
             "self_attn.v_proj": (256, WIDTH), "self_attn.o_proj": (WIDTH, WIDTH)}
    for number in range(max(1, int(left / sum(torch.Size(shape).numel() for shape in block.values())))):
        found |= {f"model.layers.{number}.{name}.weight": shape for name, shape in block.items()}
    return found | {"model.norm.weight": (WIDTH,), "lm_head.weight": (VOCABULARY, WIDTH)}


def blocks(found: dict[str, tuple[int, ...]]) -> int:
    return sum(name.endswith("input_layernorm.weight") for name in found)


def write_model(folder: Path, gigabytes: float, seed: int) -> None:
    """Seed 0 is the base; another one the base plus a change of about a fiftieth, of which all experts share a fourth."""
    folder.mkdir(parents=True)
    shard, size, shards = {}, 0, []

    def close() -> None:
        nonlocal shard, size
        shards.append((folder / f"part-{len(shards)}", list(shard)))
        save_file(shard, shards[-1][0], metadata={"format": "pt"})
        shard, size = {}, 0

    total = 0
    wanted = shapes(gigabytes)
    for number, (name, shape) in enumerate(wanted.items()):
        tensor = torch.randn(shape, generator=torch.Generator().manual_seed(number)).mul_(0.02)
        if seed:
            change = torch.randn(shape, generator=torch.Generator().manual_seed(1000 * seed + number))
            change += torch.randn(shape, generator=torch.Generator().manual_seed(10**6 + number)) / 3**0.5
            tensor += change.mul_(0.0004) * (1 + (number + seed) % 3)
        shard[name] = tensor.bfloat16()
        size += shard[name].nbytes
        total += shard[name].nbytes
        if size >= SHARD_BYTES:
            close()
    if shard:
        close()
    weights = {}
    for number, (path, names) in enumerate(shards, 1):
        final = f"model-{number:05}-of-{len(shards):05}.safetensors"
        path.rename(folder / final)
        weights |= dict.fromkeys(names, final)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weights}))
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": INNER,
        "num_attention_heads": 32, "num_key_value_heads": 4, "num_hidden_layers": blocks(wanted), "vocab_size": VOCABULARY,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "torch_dtype": "bfloat16"}))
