"""Pictures and clips as a load: what is asked of a media pool, and what its service-time model says of it.

Each request makes one item of one size. A media pool works its queue off one item at a time, or many at once with the
same throughput, so that a mean answer takes as long as one item times how many are under way in its container. In a
closed loop this is no approximation: the mean latency times the number of answers is what was in flight times the
wall time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from pools.failures.classes import AttemptFailed
from pools.fit.timing import timing_model
from pools.media import MediaAsked, work
from pools.spec import ModelKind, PoolSpec
from pools.wire.backend import UpstreamRequest
from pools.wire.http import HttpBackend
from pools.wire.multipart import form_of
from pricing.clock import Clock
from router.errors import ApiError
from router.inbound.media import IMAGES_PATH, SYNC_PATH, media_of
from router.measure.load import CONNECT_S, Sample
from router.measure.prompts import prompt
from router.measure.subject import CannotMeasure, Shape, Subject
from router.serving.media import check_media

MADE: Final = {ModelKind.IMAGE: "picture", ModelKind.VIDEO: "clip"}
REQUESTS: Final = {ModelKind.IMAGE: 50, ModelKind.VIDEO: 5}  # a clip takes minutes
PROMPT_WORDS: Final = 20  # of a picture; their number matters to no diffusion model


def asked_of(pool: PoolSpec, given: Mapping[str, str | int | float | None]) -> MediaAsked | None:
    """One item of the size that the options give, else of the model's own; None for a pool that makes text.

    Raises CannotMeasure for a value that no request may have, and for any of them where the pool makes no such thing.
    """
    options = {name: value for name, value in given.items() if value is not None}
    kind = pool.model.kind
    known = {"size", "num_inference_steps"} if kind is ModelKind.IMAGE else set(given) if kind in MADE else set()
    if wrong := sorted(set(options) - known):
        raise CannotMeasure(f"'{pool.name}' makes {kind}s, which have no {' or '.join(wrong)}; leave it out")
    if kind not in MADE:
        return None
    try:
        asked = media_of(options, kind)
    except ApiError as error:
        raise CannotMeasure(error.message) from None
    size = asked.on(pool.model.item)
    return MediaAsked(kind, 1, size.width, size.height, size.steps, size.frames, fps=size.fps or None)


class MediaAsker:
    """Asks a pool for one picture or clip at a time; every prompt is another, of the same words."""

    def __init__(self, backend: HttpBackend, subject: Subject, shape: Shape, asked: MediaAsked, clock: Clock) -> None:
        self._backend = backend
        self._subject = subject
        self._shape = shape
        self._asked = asked
        self._clock = clock

    async def ask(self, number: int) -> Sample:
        """Request `number` and what became of it; cancelling closes its connection at once."""
        request = self._request(number)
        sent_us = self._clock.mono_us()
        try:
            answer = await self._backend.complete(request)
            ended_us = self._clock.mono_us()
            check_media(self._asked, answer)
        except AttemptFailed as failed:
            return Sample(
                sent_us,
                None,
                self._clock.mono_us(),
                failure=failed.failure,
                detail=failed.detail,
                status=failed.status,
            )
        return Sample(sent_us, ended_us, ended_us)

    def _request(self, number: int) -> UpstreamRequest:
        shape = self._shape
        path, content_type, body = self._body(prompt(shape.seed, number, PROMPT_WORDS))
        return UpstreamRequest(
            path=path,
            body=body,
            request_id=f"measure-{shape.seed}-{number}",
            stream=False,
            connect_timeout_s=min(CONNECT_S, shape.timeout_s),
            first_token_timeout_s=shape.timeout_s,
            stall_timeout_s=shape.timeout_s,
            total_timeout_s=shape.timeout_s,
            headers=(("Content-Type", content_type),),
            choices=0,
        )

    def _body(self, text: str) -> tuple[str, str, bytes]:
        """Path, Content-Type and body. Every figure is sent, so that no server's own default is measured."""
        asked = self._asked
        fields: dict[str, str | int] = {
            "model": self._subject.model,
            "prompt": text,
            "size": f"{asked.width}x{asked.height}",
            "num_inference_steps": asked.steps or 1,
        }
        if asked.kind is ModelKind.VIDEO:
            fields["num_frames"] = asked.frames or 1
            if asked.fps is not None:
                fields["fps"] = f"{asked.fps:g}"
            return SYNC_PATH, *form_of({name: str(value) for name, value in fields.items()})
        return IMAGES_PATH, "application/json", msgspec.json.encode({**fields, "n": 1, "response_format": "b64_json"})


def modelled_s(pool: PoolSpec, asked: MediaAsked, at_a_time: float) -> float:
    """The model's mean time of one item, with `at_a_time` of them under way in each container."""
    return timing_model(pool).estimate_media(asked, 0).total_s * max(1.0, at_a_time)


def seconds_per_item(pool: PoolSpec, asked: MediaAsked, time_factor: float) -> float:
    """What the model's row should say for this GPU, so that pools without a `time_factor` take what was measured.

    What is done once a request stays as the row has it: one size cannot tell both apart.
    """
    model = timing_model(pool)
    assert model.item_s is not None  # the catalogue has no media model without
    rest = 1 / pool.time_factor
    once_s, times = model.once_s * rest, work(asked, model.item)
    took_s = time_factor * (once_s + (model.item_s * rest - once_s) * times)
    return once_s + max(0.0, took_s - once_s) / times
