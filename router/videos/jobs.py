"""Jobs for clips: created at once, run beside the requests, by the same chain as everything else.

A clip takes minutes, which no client should wait for on one connection, so that `POST /v1/videos` answers with a job.
The router owns the job's record and the clip; upstream it asks for the whole clip at once (`/v1/videos/sync`), because
an engine's own jobs die with its container.

A job is never run twice by accident. Its record is on disk before its chain begins; the same `Idempotency-Key`, or an
SDK's own repetition of the same request, is answered with the job that is there; and a job that the process did not
live to finish is failed, not run again. Falling back to another pool is part of its one run.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from typing import Final, TypeVar

from msgspec.structs import replace

from policies.policy import Policy
from pools.media import clip_us
from pools.spec import MediaSize
from pools.wire.multipart import boundary_of, parts_of
from pricing.clock import Clock
from pricing.errors import StoreUnavailable
from router.errors import ApiError
from router.inbound.callers import Caller
from router.inbound.media import VIDEOS_PATH
from router.inbound.request import Parsed
from router.interrupts import Cause, Interrupted, Interrupts, Ongoing
from router.serving.chain import Chain
from router.serving.controller import Controller
from router.serving.refusals import stop_error
from router.telemetry.log import LOGGER
from router.videos.store import Job, JobStatus, VideoStore

T = TypeVar("T")

RUNNING_AT_MOST: Final = 200  # jobs that run or wait for a pool; each keeps its body in memory
BROKEN: Final = (OSError, sqlite3.Error, StoreUnavailable)
PAGE: Final = 20  # jobs of a list, as OpenAI has it
PAGE_AT_MOST: Final = 100


class VideoJobs:
    """The jobs of one process."""

    def __init__(
        self,
        store: VideoStore,
        controller: Controller,
        ongoing: Ongoing,
        policy: Callable[[], Policy],
        stopping: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._store = store
        self._controller = controller
        self._ongoing = ongoing
        self._policy = policy
        self._stopping = stopping
        self._clock = clock
        self._running: dict[str, Interrupts] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()
        self._opened = False

    async def create(
        self, parsed: Parsed, caller: Caller, idempotency_key: str | None, *, repeated: bool = False
    ) -> Job:
        """Begin a job, or find the one that is there for this request.

        `repeated`: the client says that it sends the request again.

        Raises ApiError where the request cannot be served at all, and for an idempotency key used for another.
        """
        if self._stopping():
            raise stop_error(Cause.SHUTDOWN)
        if len(self._tasks) >= RUNNING_AT_MOST:
            text = f"{RUNNING_AT_MOST} video jobs are under way here; send this one again when some have ended"
            raise ApiError("no_capable_pool", text, retry_after_s=30.0)
        await self._open()
        created: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._run(parsed, caller, idempotency_key, repeated, created))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(partial(_tell, created))
        return await asyncio.shield(created)  # a client that leaves meanwhile ends the wait, not the job

    async def find(self, job_id: str, viewer: Caller) -> Job:
        """A job of the viewer's tenant; an admin sees all. Raises ApiError `video_not_found`."""
        await self._open()
        found = await self._read(partial(self._store.find, job_id))
        if found is None or not (viewer.is_admin or found.tenant == viewer.tenant):
            raise ApiError("video_not_found", "no video job of that id is yours; it may have expired")
        return found

    async def listed(
        self, viewer: Caller, limit: int, after: str | None, *, newest_first: bool
    ) -> tuple[list[Job], bool]:
        """Jobs of the viewer's tenant behind `after`, an admin's of all; whether there are more.

        Raises ApiError `video_not_found` for an `after` that is none of these.
        """
        await self._open()
        last = None if after is None else await self.find(after, viewer)
        tenant = None if viewer.is_admin else viewer.tenant
        found = await self._read(partial(self._store.listed, tenant, limit + 1, last, newest_first=newest_first))
        return found[:limit], len(found) > limit

    async def clip(self, job_id: str, viewer: Caller) -> tuple[Job, bytes]:
        """A clip that is complete. Raises ApiError `video_not_found` and `video_not_ready`."""
        job = await self.find(job_id, viewer)
        if job.status is not JobStatus.COMPLETED:
            why = f": {job.error_message}" if job.error_message else ""
            raise ApiError(
                "video_not_ready", f"this job is {job.status}{why}; GET /v1/videos/{job.id} says when it ends"
            )
        clip = await self._read(partial(self._store.clip, job.id))
        if clip is None:
            raise ApiError("video_not_found", "this clip has just been deleted")
        return job, clip

    async def delete(self, job_id: str, viewer: Caller) -> None:
        """Forget a job and its clip; one that runs is ended, and its tenant pays for what ran.

        Another replica that runs it ends it when it next renews its lease.
        """
        job = await self.find(job_id, viewer)
        interrupts = self._running.get(job.id)
        if interrupts is not None:
            interrupts.interrupt(Cause.CLIENT_GONE)
        await self._read(partial(self._store.delete, job.id))

    async def ended(self) -> None:
        """Wait until every job has ended; to be called once nothing more begins."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- one job -----------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Before anything else, once. Raises ApiError `store_unavailable`."""
        async with self._opening:
            if self._opened:
                return
            try:
                await asyncio.to_thread(self._store.open, self._clock.wall_us())
            except BROKEN as error:
                raise _unwritten(error) from error
            self._opened = True

    async def _read(self, question: Callable[[], T]) -> T:
        """Ask the store, in a thread. Raises ApiError `store_unavailable`."""
        try:
            return await asyncio.to_thread(question)
        except BROKEN as error:
            raise _unwritten(error) from error

    async def _run(
        self,
        parsed: Parsed,
        caller: Caller,
        idempotency_key: str | None,
        repeated: bool,
        created: asyncio.Future[Job],
    ) -> None:
        """One job from its record to its end. Raises ApiError before there is one."""
        interrupts = Interrupts()
        name = secrets.token_hex(12)
        with self._ongoing.request(interrupts):
            policy = self._policy()
            chain = await self._controller.open(f"req_{name}", parsed, caller, policy, interrupts, None, VIDEOS_PATH)
            job = _job(name, chain, idempotency_key)
            known = await self._record(job, repeated)
            created.set_result(known)
            if known.id != job.id:
                return
            self._running[job.id] = interrupts
            try:
                async with self._renewing(job.id, interrupts):
                    await self._make(job, chain)
            except BROKEN:
                LOGGER.exception("the record of a video job could not be written")
            finally:
                del self._running[job.id]

    @asynccontextmanager
    async def _renewing(self, job_id: str, interrupts: Interrupts) -> AsyncIterator[None]:
        """Hold the record's lease for as long as the block runs, where it has one."""
        every_s = self._store.renew_every_s
        if every_s is None:
            yield
            return
        renewal = asyncio.create_task(self._renew(job_id, interrupts, every_s * self._clock.speedup))
        try:
            yield
        finally:
            renewal.cancel()

    async def _renew(self, job_id: str, interrupts: Interrupts, every_s: float) -> None:
        """End the job where its record is gone, or was failed because nobody had heard of it for too long."""
        while True:
            await self._clock.sleep(every_s)
            try:
                status = await asyncio.to_thread(self._store.renew, job_id)
            except BROKEN as error:
                LOGGER.warning("the lease of a video job could not be renewed: %s", error)
                continue
            if status is None or status is JobStatus.FAILED:
                return interrupts.interrupt(Cause.CLIENT_GONE if status is None else Cause.SHUTDOWN)

    async def _record(self, job: Job, repeated: bool) -> Job:
        """The job's record, on disk; or that of the job which is there for this request. Raises ApiError."""
        try:
            await asyncio.to_thread(self._store.expire, job.created_us)
            known = await asyncio.to_thread(self._store.create, job, repeated)
        except BROKEN as error:
            raise _unwritten(error) from error
        if known.fingerprint != job.fingerprint:
            text = "this Idempotency-Key was used for another request; use a new key for each job"
            raise ApiError("invalid_value", text, param="Idempotency-Key")
        return known

    async def _make(self, job: Job, chain: Chain) -> None:
        await asyncio.to_thread(self._store.begun, job.id)
        try:
            clip = await self._controller.complete(chain)
        except ApiError as error:
            await self._controller.finish(chain, "refused", error.status, error.code)
            await self._failed(job, chain, error)
        except Interrupted as stop:
            said = stop_error(stop.cause)
            outcome = "client_gone" if stop.cause is Cause.CLIENT_GONE else "refused"
            await self._controller.finish(chain, outcome, said.status, said.code)
            await self._failed(job, chain, said)
        except BaseException:
            await self._controller.abandon(chain)
            raise
        else:
            try:
                await asyncio.to_thread(self._store.completed, self._ended(job, chain), clip)
            except BROKEN as error:
                await self._failed(job, chain, _unwritten(error))

    async def _failed(self, job: Job, chain: Chain, error: ApiError) -> None:
        ended = self._ended(job, chain)
        await asyncio.to_thread(self._store.failed, replace(ended, error_code=error.code, error_message=error.message))

    def _ended(self, job: Job, chain: Chain) -> Job:
        return replace(
            job,
            ended_us=self._clock.wall_us(),
            content_type="video/mp4",
            pool=chain.pool,
            cost_nusd=chain.charged_nusd,
        )


def _tell(created: asyncio.Future[Job], task: asyncio.Task[None]) -> None:
    """What went wrong before there was a job is raised where it was asked for."""
    if not created.done():
        error = None if task.cancelled() else task.exception()
        created.set_exception(error or stop_error(Cause.SHUTDOWN))


def _unwritten(error: Exception) -> ApiError:
    return ApiError("store_unavailable", f"video jobs cannot be written or read: {error}")


def _job(name: str, chain: Chain, idempotency_key: str | None) -> Job:
    """The record of a job that is about to begin; what it does not ask for is that of the class's first model."""
    asked = chain.parsed.media
    size = MediaSize() if asked is None else asked.on(chain.requirements.media_item)
    return Job(
        id=f"video_{name}",
        request_id=chain.request_id,
        tenant=chain.caller.tenant,
        key_id=chain.caller.key_id,
        idempotency_key=idempotency_key,
        fingerprint=fingerprint(chain.parsed),
        model=chain.parsed.model,
        size=f"{size.width}x{size.height}",
        seconds=f"{clip_us(size) / 1e6:g}",
        created_us=chain.wall_us,
    )


def fingerprint(parsed: Parsed) -> str:
    """A hash of a form's fields, whatever boundary stands between them."""
    digest = sha256()
    body = parsed.body
    for part in parts_of(body, boundary_of(parsed.content_type)):
        digest.update(f"{len(part.name)}:{part.name}:{part.end - part.start}:".encode())
        digest.update(memoryview(body)[part.start : part.end])
    return digest.hexdigest()
