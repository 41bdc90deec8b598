"""`/v1/videos`: jobs for clips, in OpenAI's shapes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response

from pricing.clock import US_PER_S
from pricing.money import usd_number
from router.errors import ApiError
from router.http.replies import body_of, caller_of, reply, viewer_of
from router.inbound.media import VIDEOS_PATH, parse_video
from router.service.service import Service
from router.videos.jobs import PAGE, PAGE_AT_MOST, VideoJobs
from router.videos.store import Job, JobStatus

_CLIP = "video"
_PROGRESS = {JobStatus.QUEUED: 0, JobStatus.IN_PROGRESS: 0, JobStatus.COMPLETED: 100, JobStatus.FAILED: 0}


def add_video_routes(app: FastAPI, service: Service, videos: VideoJobs) -> None:
    @app.post(VIDEOS_PATH)
    async def create(request: Request) -> Response:
        """Begin a job; 200 with the one that is there for a request that came before."""
        caller = caller_of(service, request)
        parsed = parse_video(request.headers.get("content-type", ""), await body_of(service, request))
        # The official clients count their own repetitions of one request in this header.
        repeated = request.headers.get("x-stainless-retry-count", "0") != "0"
        key = request.headers.get("idempotency-key") or None
        job = await videos.create(parsed, caller, key, repeated=repeated)
        answer = reply(video_json(job))
        answer.headers["x-sluice-request-id"] = job.request_id
        return answer

    @app.get(VIDEOS_PATH)
    async def listed(request: Request, limit: int = PAGE, after: str | None = None, order: str = "desc") -> Response:
        """A page of jobs, the newest first unless `order` is `asc`."""
        viewer = viewer_of(service, request)
        if not 1 <= limit <= PAGE_AT_MOST:
            raise ApiError("invalid_value", f"limit {limit} is not between 1 and {PAGE_AT_MOST}", param="limit")
        if order not in ("asc", "desc"):
            raise ApiError("invalid_value", "'order' is asc or desc", param="order")
        jobs, more = await videos.listed(viewer, limit, after or None, newest_first=order == "desc")
        ends = {"first_id": jobs[0].id if jobs else None, "last_id": jobs[-1].id if jobs else None}
        return reply({"object": "list", "data": [video_json(job) for job in jobs], **ends, "has_more": more})

    @app.get(VIDEOS_PATH + "/{job_id}")
    async def find(job_id: str, request: Request) -> Response:
        return reply(video_json(await videos.find(job_id, viewer_of(service, request))))

    @app.get(VIDEOS_PATH + "/{job_id}/content")
    async def content(job_id: str, request: Request, variant: str = _CLIP) -> Response:
        if variant != _CLIP:
            raise ApiError(
                "invalid_value", f"'variant' is {_CLIP} alone: of a clip nothing else is kept", param="variant"
            )
        job, clip = await videos.clip(job_id, viewer_of(service, request))
        return Response(clip, media_type=job.content_type)

    @app.delete(VIDEOS_PATH + "/{job_id}")
    async def delete(job_id: str, request: Request) -> Response:
        await videos.delete(job_id, viewer_of(service, request))
        return reply({"id": job_id, "object": "video.deleted", "deleted": True})


def video_json(job: Job) -> dict[str, Any]:
    """OpenAI's video object, with who made it and at what cost under `x_sluice`."""
    error = None if job.error_code is None else {"code": job.error_code, "message": job.error_message}
    return {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": job.status.value,
        "progress": _PROGRESS[job.status],
        "created_at": job.created_us // US_PER_S,
        "completed_at": job.ended_us // US_PER_S if job.ended_us and job.status is JobStatus.COMPLETED else None,
        "expires_at": job.expires_us // US_PER_S if job.expires_us else None,
        "size": job.size,
        "seconds": job.seconds,
        "error": error,
        "x_sluice": {
            "request_id": job.request_id,
            "pool": job.pool,
            "cost_usd": None if job.cost_nusd is None else usd_number(job.cost_nusd),
        },
    }
