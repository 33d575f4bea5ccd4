"""The small vocabulary of pins-tiny: byte-level BPE trained on the station's own questions and answers.

The special tokens stand at Pixtral's own numbers, so everything that knows Pixtral knows this one. The splitting
pattern is the one llama.cpp uses for the pre-tokenizer name "pixtral" (its LLAMA3 pattern).
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from station import report

SPECIAL = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]"),
)
BOS, EOS, INST, INST_END, IMG, PAD, IMG_BREAK, IMG_END = 1, 2, 3, 4, 10, 11, 12, 13
VOCABULARY_SIZE = 576
MODES = ("missing", "bent", "deformed", "contaminated", "short")
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST]"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}[IMG]{% endif %}{% endfor %}{% endif %}[/INST]"
    "{% else %}{{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)


def corpus() -> list[str]:
    """Return the texts the vocabulary is made from; answers often, so that each choice becomes one token."""
    words = [f"->{word}" for word in (*report.JUDGEMENTS, report.NONE, *MODES)]
    positions = [f"->{row}{column}" for row in "ABCDEF" for column in range(1, 17)]
    counts = [f"->{n} pins" for n in range(100)]
    texts = [report.REPORT_INSTRUCTION, report.PIN_INSTRUCTION] * 20 + (words + positions) * 50 + counts * 50
    for judgement in report.JUDGEMENTS:
        for mode in (report.NONE, *MODES):
            texts += [report.pin_text(report.PinAnswer(judgement, mode))] * 20
            texts += [report.report_text(report.ReportAnswer(27, judgement, mode, "A1"))] * 20
    return texts


def train() -> Tokenizer:
    """Return the tokenizer, special tokens at Pixtral's numbers."""
    tokenizer = Tokenizer(models.BPE(unk_token=None, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja as Hugging Face folders have them."""
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {str(i): {"content": token, "special": True} for i, token in enumerate(SPECIAL)}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "add_bos_token": True,
        "added_tokens_decoder": added,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
