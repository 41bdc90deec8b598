"""Two pools of one model that say the same answer, byte by byte as vLLM 0.32 frames it, and of which one breaks off."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from support.scripted_server import DONE, ENGINE_DIED, Exchange, frame

PROMPT_IDS = [1, 2, 3]
END = 99  # the end-of-text token: an id without a text
HALF = 3  # the third token is half a character, the fourth brings the rest of it
ANSWER: list[tuple[int, str]] = [
    (10, "Gr"),
    (11, "ü"),
    (12, ""),
    (13, "ß 🙂"),
    (14, ' "quoted"'),
    (15, "\\"),
    (16, "\n, "),
    (17, "end"),
]
TEXT = "".join(text for _, text in ANSWER)


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}


def chunk(chat: bool, choices: list[Any], **more: Any) -> bytes:
    """One frame with the head that each frame of a stream repeats."""
    name, kind = ("chatcmpl-1", "chat.completion.chunk") if chat else ("cmpl-2", "text_completion")
    return frame(id=name, object=kind, created=1795199182 if chat else 1795199190, model="m", choices=choices, **more)


def frames(chat: bool, prompt: list[int], tokens: list[tuple[int, str]], bound: int, bundle: int = 1) -> list[bytes]:
    """The frames of an answer of these tokens, at most `bound` of them and `bundle` in a frame, with usage and ids."""
    out = []
    if chat:
        delta = {"role": "assistant", "content": ""}
        first = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        out.append(chunk(chat, [first], usage=usage(len(prompt), 0), prompt_token_ids=prompt, prompt_text=None))
    finish = "length" if len(tokens) >= bound else "stop"
    said = tokens[:bound] if finish == "length" else [*tokens, (END, "")]
    for begin in range(0, len(said), bundle):
        part = said[begin : begin + bundle]
        text = "".join(text for _, text in part)
        ends = begin + bundle >= len(said)
        words = {"delta": {"content": text}} if chat else {"text": text}
        choice: dict[str, Any] = {"index": 0, **words, "logprobs": None}
        choice |= {"finish_reason": finish if ends else None, "token_ids": [token for token, _ in part]}
        if not chat:
            choice |= {"prompt_token_ids": prompt if begin == 0 else None}
        out.append(chunk(chat, [choice], usage=usage(len(prompt), begin + len(part))))
    return [*out, chunk(chat, [], usage=usage(len(prompt), len(said))), DONE]


def read(ids: list[int]) -> str:
    """What token ids read: half a character shows as U+FFFD."""
    said = [(token, text) for token, text in ANSWER if token in ids]
    halved = bool(said) and said[-1] == ANSWER[HALF - 1]
    return "".join(text for _, text in said) + ("\ufffd" if halved else "")


@dataclass
class Engine:
    """A script that answers as the model does. It breaks off after `cut` frames of a chat, and after `cut_rest` frames
    of an answer that it was to go on with; None: it does not. It `resets` the connection where it would send an error;
    once it broke off it `dies`, and refuses what comes later. vLLM never `finishes_apart` from the last token.
    """

    cut: int | None = None
    cut_rest: int | None = None
    resets: bool = False
    dies: bool = False
    finishes_apart: bool = False
    bundle: int = 1  # tokens in a frame
    bodies: list[Any] = field(default_factory=list)

    async def __call__(self, exchange: Exchange) -> None:
        body = json.loads(exchange.request.body)
        if exchange.request.path == "/detokenize":
            await exchange.answer("200 OK", json.dumps({"prompt": read(body["tokens"])}).encode())
            return
        self.bodies.append(body)
        if self.dies and len(self.bodies) > 1:
            await exchange.answer("500 Internal Server Error", b'{"error":{"message":"no","type":"x","code":500}}')
            return
        await exchange.start_stream()
        chat = exchange.request.path.endswith("/chat/completions")
        prompt = PROMPT_IDS if chat else body["prompt"]
        there = len(prompt) - len(PROMPT_IDS)
        assert prompt[len(PROMPT_IDS) :] == [token for token, _ in ANSWER][:there]
        bound = 1000 if self.finishes_apart else body.get("max_tokens") or 1000
        out = frames(chat, prompt, ANSWER[there:], bound, self.bundle)
        cut = self.cut if chat else self.cut_rest
        for one in out[:cut]:
            await exchange.chunk(one)
        if cut is not None and self.resets:
            exchange.reset()
        elif cut is not None:
            await exchange.chunk(ENGINE_DIED + DONE)
        await exchange.end_stream()
