"""The base's tokenizer as GGUF metadata, and the chat template: the adapter's own where it brings one.

Reads tokenizer.json and tokenizer_config.json; anything that does not fit is E08.
"""

import re
from pathlib import Path

import checked_json
import gguf
from checked_json import ExportError, Fields
from progress import say

IMG, IMG_BREAK, IMG_END = 10, 12, 13
_HINT = "Give base and tokenizer of one model, unchanged."
_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<\uff5c.*\uff5c>|<unused\d+>|<extra_id_\d+>", re.DOTALL)


def keys(base: Path, adapter: Path | None, words: int) -> dict[str, object]:
    """Return the tokenizer's metadata; `words` is the number of rows of the embedding. Raises ExportError E08."""
    data = checked_json.read(base / "tokenizer.json", "E08", _HINT)
    settings = checked_json.read(base / "tokenizer_config.json", "E08", _HINT)
    if adapter and (adapter / "tokenizer.json").exists():
        _check_same(data, checked_json.read(adapter / "tokenizer.json", "E08", _HINT))
    ids, kinds = _words(data, words)
    tokens = sorted(ids, key=lambda token: ids[token])
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "pixtral",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [int(kinds.get(token, gguf.TokenType.NORMAL)) for token in tokens],
        "tokenizer.ggml.merges": _merges(data.table("model")),
        **_special_ids(settings, ids),
        "tokenizer.ggml.add_bos_token": settings.values.get("add_bos_token", True) is True,
        "tokenizer.chat_template": chat_template(base, adapter),
    }


def _words(data: Fields, words: int) -> tuple[dict[str, int], dict[str, gguf.TokenType]]:
    """Return token -> number, and the kind of each added token."""
    model = data.table("model")
    if model.values.get("type") != "BPE":
        raise model.wrong("type", "BPE")
    listed = model.table("vocab")
    ids = {token: listed.integer(token, 0, 2**24) for token in listed.values}
    kinds = {}
    for value in data.items("added_tokens", []):
        added = Fields(value, f"{data.where}: added_tokens", "E08", _HINT)
        token = added.text("content")
        ids[token] = added.integer("id", 0, 2**24)
        special = added.values.get("special") is True or bool(_LOOKS_SPECIAL.fullmatch(token))
        kinds[token] = gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
    if not all(map(checked_json.is_unicode, ids)):
        raise ExportError("E08", f"{data.where}: a token is no text.", _HINT)
    if len(ids) != words or sorted(ids.values()) != list(range(words)):
        raise ExportError("E08", f"{data.where} has {len(ids)} tokens, the embedding {words} rows.", _HINT)
    for token, number in (("[IMG]", IMG), ("[IMG_BREAK]", IMG_BREAK), ("[IMG_END]", IMG_END)):
        if ids.get(token) != number:
            raise ExportError("E08", f"{data.where}: {token} is {ids.get(token)}, not {number}.", _HINT)
    return ids, kinds


def _merges(model: Fields) -> list[str]:
    out = []
    for merge in model.items("merges"):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise model.wrong("merges", "pairs of tokens")
        line = " ".join(part.replace(" ", "Ġ") for part in parts)
        if not checked_json.is_unicode(line):
            raise model.wrong("merges", "pairs of tokens")
        out.append(line)
    return out


def _special_ids(settings: Fields, ids: dict[str, int]) -> dict[str, object]:
    out: dict[str, object] = {}
    for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding")):
        value = settings.values.get(name)
        token = value.get("content") if isinstance(value, dict) else value
        if token is None and name == "pad_token":
            continue
        if not isinstance(token, str) or token not in ids:
            raise settings.wrong(name, "a token of tokenizer.json")
        out[f"tokenizer.ggml.{key}_token_id"] = ids[token]
    return out


def chat_template(base: Path, adapter: Path | None) -> str:
    """Return the adapter's chat template, else the base's. Raises ExportError E08 for one that would say nothing."""
    for folder in filter(None, (adapter, base)):
        template = _template_in(folder)
        if template is None:
            continue
        if folder == adapter and template != _template_in(base):
            say("plan", f"the chat template is the adapter's, which differs from the base's: {folder}")
        if "{{" not in template and "{%" not in template:
            raise ExportError(
                "E08", f"The chat template of {folder} has no Jinja braces: picture and question would be lost.",
                "Give a folder with tokenizer.json and a Jinja chat template, not a tekken.json one.",
            )  # fmt: skip
        return template
    raise ExportError("E08", f"{base} has no chat template.", "Add chat_template.jinja of the model.")


def _template_in(folder: Path) -> str | None:
    settings = folder / "tokenizer_config.json"
    fields = checked_json.read(settings, "E08", _HINT) if settings.exists() else None
    if (folder / "chat_template.jinja").is_file():
        try:
            return (folder / "chat_template.jinja").read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ExportError("E08", f"{folder}/chat_template.jinja cannot be read.", _HINT) from error
    if (folder / "chat_template.json").is_file():
        return checked_json.read(folder / "chat_template.json", "E08", _HINT).text("chat_template")
    return fields.text("chat_template") if fields and fields.values.get("chat_template") is not None else None


def _check_same(base: Fields, adapter: Fields) -> None:
    ours, theirs = base.table("model"), adapter.table("model")
    different = ["vocab"] if ours.values.get("vocab") != theirs.values.get("vocab") else []
    different += ["merges"] if _merges(ours) != _merges(theirs) else []  # texts or pairs, as the library's version is
    different += [key for key in ("pre_tokenizer", "added_tokens") if base.values.get(key) != adapter.values.get(key)]
    if different:
        raise ExportError(
            "E08", f"The adapter's tokenizer.json has other {', '.join(different)} than the base's.",
            "Train with the base's own tokenizer, or give the base that this tokenizer belongs to.",
        )  # fmt: skip
