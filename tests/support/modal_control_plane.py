"""Modal's control plane on loopback: a small stateful stand-in that speaks the SDK's own gRPC protocol.

It keeps Apps with their tags, Secrets, containers and autoscaler settings, answers what deploying and looking need, and
can be told to fail: `fail("TaskList", Status.RESOURCE_EXHAUSTED)`, or to be late. It knows nothing of real Modal beyond
the messages in the SDK's wheel, so it proves what is sent and how answers are taken, not what Modal makes of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import grpclib
import modal
from google.protobuf import empty_pb2
from grpclib.server import Server as GrpcServer
from modal_proto import api_grpc, api_pb2


@dataclass
class FakeApp:
    """One App: what was published, and which of its containers live."""

    id: str
    name: str
    tags: dict[str, str] = field(default_factory=dict)
    function_id: str = ""
    function: Any = None
    image: list[Any] = field(default_factory=list)
    autoscaler: Any = None
    deployments: int = 0
    stopped: bool = False
    tasks: dict[str, float] = field(default_factory=dict)  # id -> started at, seconds; 0: not started yet
    serving: set[str] = field(default_factory=set)
    answers: dict[int, int] = field(default_factory=dict)  # of the last hour, by status


@dataclass
class _Fault:
    status: grpclib.Status
    times: int
    message: str


class FakeModal:
    """The state, and what was asked. Methods named as RPCs answer them."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        self.apps: dict[str, FakeApp] = {}
        self.secrets = set(secrets)
        self.secret_keys: dict[str, set[str]] = {}  # of Secrets by name, where it matters what they hold
        self.required_keys: dict[str, tuple[str, ...]] = {}  # by Secret's id, as a deployment asked for them
        self.env_secrets: dict[str, dict[str, str]] = {}
        self.named_secrets: dict[str, str] = {}
        self.volumes: dict[str, str] = {}
        self.mounts: dict[str, tuple[str, ...]] = {}  # places in a container, by mount's id
        self.calls: Counter[str] = Counter()
        self.token_ids: set[str] = set()  # who asked
        self.url = ""  # while it listens
        self.requests: list[tuple[str, Any]] = []
        self.late_s: dict[str, float] = {}
        self.hangs_up: set[str] = set()  # RPCs under which the connection breaks
        self.billed: list[Any] = []
        self._faults: dict[str, _Fault] = {}
        self._ids: Counter[str] = Counter()
        self._images: dict[str, Any] = {}

    # -- what tests do ---------------------------------------------------------------------------------------------

    def fail(self, rpc: str, status: grpclib.Status, times: int = 10**6, message: str = "as ordered") -> None:
        self._faults[rpc] = _Fault(status, times, message)

    def heal(self) -> None:
        self._faults.clear()
        self.late_s.clear()
        self.hangs_up.clear()

    def app(self, name: str) -> FakeApp:
        """The living App of a name."""
        return next(app for app in self.apps.values() if app.name == name and not app.stopped)

    def boot(self, name: str, task: str, started_at: float) -> None:
        """A container starts; it does not serve yet."""
        self.app(name).tasks[task] = started_at

    def serve(self, name: str, task: str) -> None:
        self.app(name).serving.add(task)

    def end(self, name: str, task: str) -> None:
        self.app(name).tasks.pop(task, None)
        self.app(name).serving.discard(task)

    def bill(self, app: str, at_s: int, parts: dict[str, str], cost: str | None = None, **tags: str) -> None:
        """An App is billed for an hour, or whatever begins at `at_s`; `parts` are dollars by resource."""
        item = api_pb2.WorkspaceBillingReportItem(
            object_id=f"ap-{app}",
            description=app,
            environment_name="main",
            cost=cost or str(sum(map(Decimal, parts.values()))),
            cost_by_resource=parts,
            tags=tags,
        )
        item.interval.FromSeconds(at_s)
        self.billed.append(item)

    def asked(self, rpc: str) -> list[Any]:
        return [request for name, request in self.requests if name == rpc]

    # -- the service -----------------------------------------------------------------------------------------------

    def service(self) -> Any:
        """An object of the SDK's own service class; what is not written below answers UNIMPLEMENTED."""
        base = api_grpc.ModalClientBase
        names = {name: self._rpc(name) for name in base.__abstractmethods__}
        return type("FakeControlPlane", (base,), names)()

    def _rpc(self, name: str) -> Callable[[Any, Any], Any]:
        answer = getattr(self, f"_{name}", None)

        async def method(_: Any, stream: Any) -> None:
            request = await stream.recv_message()
            self.calls[name] += 1
            self.token_ids.add(stream.metadata.get("x-modal-token-id", ""))
            self.requests.append((name, request))
            if name in self.hangs_up:
                stream._stream._transport.abort()
                return
            if name in self.late_s:
                await asyncio.sleep(self.late_s[name])
            fault = self._faults.get(name)
            if fault is not None and fault.times > 0:
                fault.times -= 1
                raise grpclib.GRPCError(fault.status, fault.message)
            if answer is None:
                raise grpclib.GRPCError(grpclib.Status.UNIMPLEMENTED, name)
            answered = answer(request)
            for message in answered if isinstance(answered, list) else [answered]:
                await stream.send_message(message)

        return method

    def _id(self, prefix: str) -> str:
        self._ids[prefix] += 1
        return f"{prefix}-{self._ids[prefix]}"

    def _ClientHello(self, _: Any) -> Any:  # noqa: N802 - methods that answer an RPC have its name
        return api_pb2.ClientHelloResponse(image_builder_version="2025.06")

    def _EnvironmentGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        settings = api_pb2.EnvironmentSettings(image_builder_version="2025.06")
        metadata = api_pb2.EnvironmentMetadata(name=request.deployment_name or "main", settings=settings)
        return api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata)

    def _AppGetByDeploymentName(self, request: Any) -> Any:  # noqa: N802
        found = [app.id for app in self.apps.values() if app.name == request.name and not app.stopped]
        return api_pb2.AppGetByDeploymentNameResponse(app_id=found[0] if found else "")

    def _AppGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        found = [app.id for app in self.apps.values() if app.name == request.app_name and not app.stopped]
        if not found:
            raise grpclib.GRPCError(grpclib.Status.NOT_FOUND, f"no App '{request.app_name}'")
        return api_pb2.AppGetOrCreateResponse(app_id=found[0])

    def _AppCreate(self, request: Any) -> Any:  # noqa: N802
        app = FakeApp(self._id("ap"), request.description)
        self.apps[app.id] = app
        return api_pb2.AppCreateResponse(app_id=app.id, app_page_url="http://127.0.0.1/app")

    def _AppGetLayout(self, request: Any) -> Any:  # noqa: N802
        app = self.apps[request.app_id]
        ids = {app.function.function_name: app.function_id} if app.function is not None else {}
        return api_pb2.AppGetLayoutResponse(app_layout=api_pb2.AppLayout(function_ids=ids))

    def _AppHeartbeat(self, _: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    _AppClientDisconnect = _AppHeartbeat

    def _AppSetTags(self, request: Any) -> Any:  # noqa: N802
        self.apps[request.app_id].tags = dict(request.tags)
        return empty_pb2.Empty()

    def _AppGetTags(self, request: Any) -> Any:  # noqa: N802
        return api_pb2.AppGetTagsResponse(tags=self.apps[request.app_id].tags)

    def _AppList(self, _: Any) -> Any:  # noqa: N802
        return api_pb2.AppListResponse(
            apps=[
                api_pb2.AppListResponse.AppListItem(
                    app_id=app.id,
                    name=app.name,
                    description=app.name,
                    n_running_tasks=len(app.tasks),
                    state=api_pb2.APP_STATE_STOPPED if app.stopped else api_pb2.APP_STATE_DEPLOYED,
                )
                for app in self.apps.values()
            ]
        )

    def _AppStop(self, request: Any) -> Any:  # noqa: N802
        app = self.apps[request.app_id]
        app.stopped = True
        app.tasks.clear()
        app.serving.clear()
        return empty_pb2.Empty()

    def _AppPublish(self, request: Any) -> Any:  # noqa: N802
        app = self.apps[request.app_id]
        app.name, app.tags = request.name, dict(request.tags) or app.tags
        app.deployments += 1
        return api_pb2.AppPublishResponse(url="http://127.0.0.1/deployed")

    def _VolumeGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        known = [volume for volume, name in self.volumes.items() if name == request.deployment_name]
        if not known and request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
            raise grpclib.GRPCError(grpclib.Status.NOT_FOUND, f"no Volume '{request.deployment_name}'")
        volume = known[0] if known else self._id("vo")
        self.volumes[volume] = request.deployment_name
        return api_pb2.VolumeGetOrCreateResponse(volume_id=volume)

    def _VolumeDelete(self, request: Any) -> Any:  # noqa: N802
        del self.volumes[request.volume_id]
        return empty_pb2.Empty()

    def _SecretGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        if request.deployment_name and request.deployment_name not in self.secrets:
            raise grpclib.GRPCError(grpclib.Status.NOT_FOUND, f"no Secret '{request.deployment_name}'")
        held = self.secret_keys.get(request.deployment_name)
        if missing := sorted(set(request.required_keys) - (set(request.required_keys) if held is None else held)):
            raise grpclib.GRPCError(grpclib.Status.NOT_FOUND, f"Secret is missing key(s) {', '.join(missing)}")
        secret = self._id("st")
        self.required_keys[secret] = tuple(request.required_keys)
        self.env_secrets[secret] = dict(request.env_dict)
        if request.deployment_name:
            self.named_secrets[secret] = request.deployment_name
        return api_pb2.SecretGetOrCreateResponse(secret_id=secret)

    def _MountGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        mount = self._id("mo")
        self.mounts[mount] = tuple(file.filename for file in request.files)
        return api_pb2.MountGetOrCreateResponse(mount_id=mount)

    def _MountBatchedCheckExistence(self, _: Any) -> Any:  # noqa: N802
        return api_pb2.MountBatchedCheckExistenceResponse()

    def _MountPutFile(self, _: Any) -> Any:  # noqa: N802
        return api_pb2.MountPutFileResponse(exists=True)

    def _ImageGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        image = self._id("im")
        self._images[image] = request.image
        success = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)
        return api_pb2.ImageGetOrCreateResponse(image_id=image, result=success)

    def _ImageFromId(self, request: Any) -> Any:  # noqa: N802
        return api_pb2.ImageFromIdResponse(image_id=request.image_id)

    def _FunctionPrecreate(self, request: Any) -> Any:  # noqa: N802
        metadata = self._handle(request.function_name)
        identity = self.apps[request.app_id].function_id or self._id("fu")
        return api_pb2.FunctionPrecreateResponse(function_id=identity, handle_metadata=metadata)

    def _FunctionCreate(self, request: Any) -> Any:  # noqa: N802
        app, function = self.apps[request.app_id], request.function
        app.function_id = request.existing_function_id or self._id("fu")
        app.function, app.image = function, self._layers(function.image_id)
        app.autoscaler = api_pb2.AutoscalerSettings()
        app.autoscaler.CopyFrom(function.autoscaler_settings)
        data = api_pb2.FunctionData(
            function_name=function.function_name,
            is_server=function.is_server,
            http_config=function.http_config,
            ranked_functions=[api_pb2.FunctionData.RankedFunction(rank=0, function=function)],
        )
        return api_pb2.FunctionCreateResponse(
            function_id=app.function_id,
            function=function,
            function_data=data,
            handle_metadata=self._handle(function.function_name, app.name),
        )

    def _layers(self, image_id: str) -> list[Any]:
        """The Dockerfile lines of an image, its base's first."""
        image = self._images[image_id]
        below = [line for base in image.base_images for line in self._layers(base.image_id)]
        return [*below, *image.dockerfile_commands]

    def _FunctionGet(self, request: Any) -> Any:  # noqa: N802
        found = [app for app in self.apps.values() if app.name == request.app_name and not app.stopped]
        if not found or found[0].function is None:
            raise grpclib.GRPCError(grpclib.Status.NOT_FOUND, f"no App '{request.app_name}'")
        function = found[0].function
        data = api_pb2.FunctionData(ranked_functions=[api_pb2.FunctionData.RankedFunction(rank=0, function=function)])
        return api_pb2.FunctionGetResponse(
            function_id=found[0].function_id,
            handle_metadata=self._handle(request.object_tag, request.app_name),
            function=data,
        )

    def _handle(self, name: str, app: str = "app") -> Any:
        url = f"https://ws--{app}-{name}.us-east.modal.direct"
        return api_pb2.FunctionHandleMetadata(function_name=name, definition_id="de-1", _experimental_flash_urls=[url])

    def _by_function(self, function_id: str) -> FakeApp:
        return next(app for app in self.apps.values() if app.function_id == function_id)

    def _FlashContainerList(self, request: Any) -> Any:  # noqa: N802
        containers = [
            api_pb2.FlashContainerListResponse.Container(task_id=task, host="127.0.0.1", port=8000)
            for task in sorted(self._by_function(request.function_id).serving)
        ]
        return api_pb2.FlashContainerListResponse(containers=containers)

    def _TaskList(self, request: Any) -> Any:  # noqa: N802
        return api_pb2.TaskListResponse(
            tasks=[
                api_pb2.TaskStats(task_id=task, app_id=app.id, app_description=app.name, started_at=started_at)
                for app in self.apps.values()
                for task, started_at in app.tasks.items()
                if request.app_id in ("", app.id)
            ]
        )

    def _ServerGetTimeRangeStats(self, request: Any) -> Any:  # noqa: N802
        app = self._by_function(request.function_id)
        counts = [
            api_pb2.ServerGetTimeRangeStatsResponse.ServerStatusCodeCount(status_code=code, count=count)
            for code, count in app.answers.items()
        ]
        return api_pb2.ServerGetTimeRangeStatsResponse(
            since=request.since,
            until=request.until,
            request_count=sum(app.answers.values()),
            request_count_by_status_code=counts,
            container_started_count=len(app.tasks),
        )

    def _FunctionUpdateSchedulingParams(self, request: Any) -> Any:  # noqa: N802
        app = self._by_function(request.function_id)
        app.autoscaler.MergeFrom(request.settings)
        return api_pb2.FunctionUpdateSchedulingParamsResponse(current_settings=app.autoscaler)

    def _FunctionGetSchedulingParams(self, request: Any) -> Any:  # noqa: N802
        app = self._by_function(request.function_id)
        configuration = api_pb2.AutoscalerConfiguration(settings=app.autoscaler)
        return api_pb2.FunctionGetSchedulingParamsResponse(autoscaler_configuration=configuration)

    def _WorkspaceNameLookup(self, _: Any) -> Any:  # noqa: N802
        return api_pb2.WorkspaceNameLookupResponse(username="fake")

    def _WorkspaceBillingReport(self, request: Any) -> Any:  # noqa: N802
        """Full hours only: the first is cut to its begin, a last one that has not ended is left out."""
        since, until = (each.seconds // 3600 for each in (request.start_timestamp, request.end_timestamp))
        wanted = "*" in request.tag_names
        found = []
        for item in self.billed:
            if since <= item.interval.seconds // 3600 < until:
                answer = api_pb2.WorkspaceBillingReportItem()
                answer.CopyFrom(item)
                for name in set(item.tags) - (set(item.tags) if wanted else set(request.tag_names)):
                    del answer.tags[name]
                found.append(answer)
        return found


@contextmanager
def control_plane(fake: FakeModal) -> Iterator[modal.Client]:
    """A client of the fake, which runs in a thread of its own until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fake Modal", daemon=True)
    thread.start()
    server, port = asyncio.run_coroutine_threadsafe(_listen(fake), loop).result(10)
    fake.url = f"http://127.0.0.1:{port}"
    try:
        with modal.Client(fake.url, api_pb2.CLIENT_TYPE_CLIENT, ("ak-fake", "as-fake")) as client:
            yield client
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _listen(fake: FakeModal) -> tuple[Any, int]:
    server = GrpcServer([fake.service()])
    await server.start("127.0.0.1", 0)
    listening: Any = server._server
    return server, listening.sockets[0].getsockname()[1]


async def _close(server: Any) -> None:
    server.close()
    await server.wait_closed()
