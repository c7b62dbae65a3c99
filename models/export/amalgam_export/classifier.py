"""Classifiers of transformers, as people have fine-tuned them."""

from pathlib import Path

import torch

from .errors import ExportError
from .pretrained import TEXT, longest, require_weights
from .quiet import quiet


class Classifier(torch.nn.Module):
    """The logits [N, C] of a classifier, and nothing else of what it returns."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True).logits


def load_classifier(folder: Path, classes: int | None) -> Classifier:
    """
    @param classes  for a folder without a classifier: of a new one, its weights as transformers draws them
    @throws ExportError
    """
    try:
        with quiet():
            from transformers import AutoModelForSequenceClassification
            options = {} if classes is None else {"num_labels": classes}
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True, **options)
    except ImportError as error:
        raise ExportError(f"the Python package transformers is not installed ({error}); run scripts/setup --real-models") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise ExportError(f"{folder}: transformers reads no classifier there: {str(error).strip().splitlines()[0]}") from error
    if model.main_input_name != TEXT[0]:
        raise ExportError(f"{folder}: the model reads '{model.main_input_name}'; `classifier` is for text, use a function of your own")
    require_weights(folder, [name for name in info["missing_keys"] if in_body(model, name)])
    if info["missing_keys"] and classes is None:
        raise ExportError(f"{folder}: the checkpoint lacks {', '.join(sorted(info['missing_keys'])[:4])}; of a base without a classifier "
                          "say how many classes a new one has: --argument classes=2")
    return Classifier(model)


def in_body(model: torch.nn.Module, name: str) -> bool:
    """Not so the pooler, which belongs to the classifier: a base may lack it."""
    return name.startswith(f"{model.base_model_prefix}.") and ".pooler." not in name


def example_inputs(classifier: Classifier, length: int) -> dict[str, torch.Tensor]:
    """Five texts, some padded."""
    config = classifier.model.config
    length = min(length, longest(config))
    generator = torch.Generator().manual_seed(0)
    ids, mask = torch.randint(config.vocab_size, (5, length), generator=generator), torch.ones(5, length, dtype=torch.long)
    for row, kept in enumerate((length, length, max(1, length // 2), max(1, length - 1), 1)):
        mask[row, kept:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, config.pad_token_id or 0), "attention_mask": mask}
