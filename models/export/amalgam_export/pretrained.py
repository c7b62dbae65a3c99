"""A body by transformers, as it computes in Python."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

import torch

from .compare import Batch
from .errors import ExportError
from .quiet import quiet

TEXT = ("input_ids", "attention_mask")
IMAGE = ("pixel_values",)
LONGEST = 96  # tokens of a batch to compare
# RoBERTa and its kin count positions from the padding's index on (create_position_ids_from_input_ids in their sources).
COUNTED_FROM_PADDING = ("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "mpnet")


@dataclass(frozen=True)
class Pretrained:
    """last_hidden_state [N, T, D] of a model, in evaluation mode and float32."""
    model: torch.nn.Module
    inputs: tuple[str, ...]
    missing: tuple[str, ...]  # parameters that the checkpoint lacks

    def hidden(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.inputs, inputs)), return_dict=True).last_hidden_state


def load_pretrained(folder: Path) -> Pretrained:
    """By AutoModel; of an encoder and decoder the encoder. Without its pooler, which last_hidden_state does not depend on."""
    try:
        with quiet():
            from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding
            from transformers.utils.logging import disable_progress_bar
            disable_progress_bar()
            config = AutoConfig.from_pretrained(folder)
            kind = AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel
            model, info = kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True)
    except ImportError as error:
        raise ExportError(f"the Python package transformers is not installed ({error}); run scripts/setup --real-models") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise ExportError(f"{folder}: transformers does not read this model: {str(error).strip().splitlines()[0]}") from error
    if getattr(model, "pooler", None) is not None:
        model.pooler = torch.nn.Identity()  # not None: some call it without asking
    present = dict(model.named_parameters())
    missing = tuple(sorted(name for name in info["missing_keys"] if name in present))
    inputs = IMAGE if model.main_input_name == "pixel_values" else TEXT
    if inputs == TEXT and model.main_input_name != "input_ids":
        raise ExportError(f"{folder}: the model reads '{model.main_input_name}'; `encoder` exports models of input_ids or pixel_values; "
                          "use `module` with a function of your own")
    return Pretrained(model.eval(), inputs, missing)


def require_weights(folder: Path, missing: Iterable[str]) -> None:
    """@throws ExportError where there are any: an export of them would be one of random numbers."""
    names = sorted(missing)
    if names:
        raise ExportError(f"{folder}: the checkpoint lacks {', '.join(names[:4])} ({len(names)} in all), which transformers would fill "
                          "with random numbers; save the whole model once with save_pretrained")


def example_batches(pretrained: Pretrained) -> Iterator[Batch]:
    """Batches of several sizes and lengths, padded and not; the first one is what a trace is made from."""
    generator = torch.Generator().manual_seed(0)
    config = pretrained.model.config
    if pretrained.inputs == IMAGE:
        side = getattr(config, "image_size", 224)
        size = side if isinstance(side, (list, tuple)) else [side] * 2
        for count in (2, 1, 3, 8):
            yield Batch(f"{count} images", (torch.randn(count, getattr(config, "num_channels", 3), *size, generator=generator),))
        return
    for count, length in ((2, 7), (1, 1), (1, 12), (3, 8), (5, 31), (2, longest(config))):
        length = min(length, longest(config))
        ids = torch.randint(0, config.vocab_size, (count, length), generator=generator)
        for kept in {max(1, length // 2): "padded", length: "not padded"}:
            mask = torch.ones(count, length, dtype=torch.long)
            mask[-1, kept:] = 0
            padded = ids.masked_fill(mask == 0, config.pad_token_id or 0)
            yield Batch(f"{count} of length {length}, the last {kept} long", (padded, mask))


def feature_width(pretrained: Pretrained) -> int:
    try:
        with torch.no_grad():
            hidden = pretrained.hidden(*next(example_batches(pretrained)).inputs)
    except Exception as error:  # whatever a model's code throws that takes other inputs or returns something else
        raise ExportError(f"{type(pretrained.model).__name__} gives no last_hidden_state for {', '.join(pretrained.inputs)} ({error}); "
                          "use `module` with a function of your own") from error
    if hidden.dim() != 3:
        raise ExportError(f"{type(pretrained.model).__name__} gives a last_hidden_state {list(hidden.shape)}, and `encoder` takes "
                          "[N, T, D]; use `module` with a function of your own")
    return hidden.shape[2]


def pooled(hidden: torch.Tensor, inputs: tuple[torch.Tensor, ...], pool: str) -> torch.Tensor:
    """What the base does with [N, T, D], in Python and in another way, to compare with."""
    if pool == "none":
        return hidden
    if pool == "cls":
        return hidden.select(1, 0)
    weights = inputs[1].to(hidden.dtype) if len(inputs) > 1 else torch.ones_like(hidden[:, :, 0])
    return torch.einsum("nt,ntd->nd", weights / weights.sum(1, keepdim=True), hidden)


def most_tokens(config: object) -> int | None:
    """That the positions of a model allow; None where nothing limits them."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return None
    return positions - ((config.pad_token_id or 0) + 1 if config.model_type in COUNTED_FROM_PADDING else 0)


def longest(config: object) -> int:
    most = most_tokens(config)
    return LONGEST if most is None else min(LONGEST, most)
