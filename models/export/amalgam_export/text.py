"""`text`: TSV files become token files, by a model's own tokenizer."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy
from safetensors.numpy import save_file

from .errors import ExportError
from .pretrained import most_tokens
from .quiet import quiet
from .source import Source
from .staging import staged

SPLITS = ("train", "val", "test")  # val may be missing
COLUMNS = ("label", "text")
NO_TARGET = -100  # cross entropy does not count it


@dataclass(frozen=True)
class Texts:
    labels: list[int]
    texts: list[str]


@dataclass(frozen=True)
class Written:
    """Of one file."""
    path: Path
    texts: int
    cut: int  # that were longer


def read_classes(folder: Path, given: int | None) -> int:
    file = folder / "classes.txt"
    if not file.is_file():
        if given is None:
            raise ExportError(f"{file}: no such file, so the number of classes is not known; write one name a line, or give --classes")
        return given
    names = [line for line in _lines(file) if line.strip()]
    if not names:
        raise ExportError(f"{file}: it is empty; expected is the name of a class on each line")
    if given is not None and given != len(names):
        raise ExportError(f"{file}: it names {len(names)} classes, and --classes says {given}; leave --classes out")
    return len(names)


def read_tsv(file: Path, classes: int | None) -> Texts:
    """A header with `label` and `text`, then a line a text; labels count from 0. Quotes are characters like others.

    @param classes  None where labels are not read, and then there need be none
    """
    columns = COLUMNS if classes is not None else COLUMNS[1:]
    lines = _lines(file)
    if not lines:
        raise ExportError(f"{file}: it is empty; expected is the header '{'<TAB>'.join(columns)}', then a line a text")
    header = lines[0].split("\t")
    missing = [column for column in columns if column not in header]
    if missing:
        raise ExportError(f"{file}: line 1: no column '{missing[0]}' in the header (it has: {', '.join(header)}); expected is "
                          f"'{'<TAB>'.join(columns)}'")
    places = [header.index(column) for column in columns]
    result = Texts([], [])
    for number, line in enumerate(lines[1:], 2):
        fields = line.split("\t")
        if len(fields) != len(header):
            raise ExportError(f"{file}: line {number}: {len(fields)} columns, and the header has {len(header)}; a tab or a line break "
                              "within a text must be replaced by a space")
        *label, text = (fields[place] for place in places)
        if classes is not None:
            result.labels.append(_label(label[0], classes, f"{file}: line {number}"))
        if not text.strip():
            raise ExportError(f"{file}: line {number}: the text is empty; remove the line")
        result.texts.append(text)
    if not result.texts:
        raise ExportError(f"{file}: it holds a header and no text")
    return result


def _label(text: str, classes: int, where: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= classes:
        raise ExportError(f"{where}: label '{text}'; expected is an integer from 0 to {classes - 1}")
    return int(text)


def _lines(file: Path) -> list[str]:
    """Lines end with \\n or \\r\\n; other breaks of Unicode are characters of the text."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ExportError(f"{file}: cannot be read ({error.strerror})") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ExportError(f"{file}: line {line}: not UTF-8; convert the file, as with iconv -t UTF-8") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


class Tokenizer:
    """Of texts that have labels."""
    LABELS = True

    def __init__(self, source: Source, length: int):
        try:
            with quiet():
                from transformers import AutoConfig, AutoTokenizer
                self._tokenizer = AutoTokenizer.from_pretrained(source.folder)
                configured = (source.folder / "config.json").is_file()
                most = most_tokens(AutoConfig.from_pretrained(source.folder)) if configured else None
        except ImportError as error:
            raise ExportError(f"the Python package transformers is not installed ({error}); run scripts/setup --real-models") from error
        except (OSError, ValueError, TypeError) as error:
            raise ExportError(f"{source.folder}: transformers reads no tokenizer there: {str(error).strip().splitlines()[0]}") from error
        if self._tokenizer.pad_token_id is None:
            raise ExportError(f"{source.folder}: the tokenizer has no padding token; set pad_token in tokenizer_config.json")
        least = self._tokenizer.num_special_tokens_to_add() + 1
        if length < least or (most is not None and length > most):
            raise ExportError(f"--length {length}: expected is {least} to {most or 'any'} tokens for {source.given}")
        self._tokenizer.padding_side = self._tokenizer.truncation_side = "right"
        self.length = length

    def __call__(self, texts: list[str]) -> tuple[dict[str, numpy.ndarray], int]:
        """input_ids and attention_mask [N, T], and how many texts were cut off."""
        with quiet():
            whole = self._tokenizer(texts, return_attention_mask=False)["input_ids"]
            tokens = self._tokenizer(texts, truncation=True, padding="max_length", max_length=self.length, return_attention_mask=True)
        arrays = {f"input.{name}": numpy.asarray(tokens[name], dtype=numpy.int64) for name in ("input_ids", "attention_mask")}
        return arrays, sum(len(ids) > self.length for ids in whole)


class LanguageTokenizer(Tokenizer):
    """Of texts whose targets are their own next tokens."""
    LABELS = False

    def __call__(self, texts: list[str]) -> tuple[dict[str, numpy.ndarray], int]:
        """input_ids and target [N, T], and how many texts have more than T targets. Token t's target is token t + 1; where the text has
        none, NO_TARGET. What is cut off takes the end's special token along: the text does not end there."""
        with quiet():
            whole = self._tokenizer(texts, return_attention_mask=False)["input_ids"]
        ids = numpy.full((len(texts), self.length), self._tokenizer.pad_token_id, dtype=numpy.int64)
        target = numpy.full_like(ids, NO_TARGET)
        for row, tokens in enumerate(whole):
            count = min(len(tokens) - 1, self.length)
            ids[row, :count], target[row, :count] = tokens[:count], tokens[1:count + 1]
        return {"input.input_ids": ids, "target": target}, sum(len(tokens) - 1 > self.length for tokens in whole)


def convert_text(folder: Path, output: Path, tokenizer: Tokenizer, classes: int | None) -> list[Written]:
    """FOLDER/{train,val,test}.tsv -> OUTPUT/{train,val,test}.safetensors, all or none."""
    count = read_classes(folder, classes) if tokenizer.LABELS else None
    splits = {split: folder / f"{split}.tsv" for split in SPLITS}
    splits = {split: file for split, file in splits.items() if split != "val" or file.exists()}
    read = {split: read_tsv(file, count) for split, file in splits.items()}
    written = []
    with staged(output / SPLITS[0]) as stage:
        for split, texts in read.items():
            arrays, cut = tokenizer(texts.texts)
            if tokenizer.LABELS:
                arrays["target"] = numpy.asarray(texts.labels, dtype=numpy.int64)
            about = json.dumps({"length": tokenizer.length, "texts": len(texts.texts), "cut": cut})
            # One key: safetensors writes several in any order.
            save_file(arrays, str(stage / f"{split}.safetensors"), metadata={"text": about})
            written.append(Written(output / f"{split}.safetensors", len(texts.texts), cut))
    return written
