"""The HTTP API, see ``openapi.py`` for its description, and the page that uses it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

import diffad_jax
from diffad_jax.data.photo import BadImage
from diffad_jax.errors import UserError
from diffad_jax.serve import page
from diffad_jax.serve.batcher import Stopping
from diffad_jax.serve.guard import Guard
from diffad_jax.serve.learning import Learning
from diffad_jax.serve.limits import RETRY_AFTER, read_uploads
from diffad_jax.serve.openapi import description
from diffad_jax.serve.service import Inspected, Service
from diffad_jax.serve.watch import Watch

_MOST_WHO = 100  # characters


class Api:
    """The routes of one service."""

    def __init__(self, service: Service, learning: Learning | str, watch: Watch | None = None):
        """``learning`` may be a sentence instead, on why nothing can be corrected."""
        self._service, self._learning, self._watch = service, learning, watch
        self._page = page.render()

    def app(self, token: str = "") -> ASGIApp:
        """The application for uvicorn; with a ``token``, all routes but the page demand it."""
        routes = [
            Route("/", self._show_page),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
            Route("/v1/model", self._model),
            Route("/v1/predict", self._predict, methods=["POST"]),
            Route("/v1/watched", self._list_watched),
            Route("/v1/watched/{number}", self._watched),
            Route("/v1/corrections", self._corrections),
            Route("/v1/corrections", self._correct, methods=["POST"]),
            Route("/v1/recalibration", self._effect),
            Route("/v1/recalibration", self._recalibrate, methods=["POST"]),
            Route("/v1/recalibration/undo", self._undo, methods=["POST"]),
        ]
        handlers = {
            HTTPException: _refuse, UserError: _conflict, OSError: _unwritten, Stopping: _stopping,
        }  # fmt: skip
        app = Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)
        paths = frozenset(route.path for route in routes)
        return Guard(app, token, self._service.counts, paths)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._watch.run()) if self._watch else None
        yield
        if watching:
            watching.cancel()
            await asyncio.wait([watching])
        await asyncio.to_thread(self._service.close)

    async def _show_page(self, request: Request) -> Response:
        html, policy = self._page
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})

    async def _health(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _metrics(self, request: Request) -> Response:
        return Response(self._service.counts.text(), media_type="text/plain; version=0.0.4")

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(description())

    async def _model(self, request: Request) -> Response:
        service, model = self._service, self._service.model
        calibration, why_not = model.calibration, self._learning
        return JSONResponse(
            {
                "category": model.category,
                "method": model.method,
                "image_size": list(model.image_size),
                "weights": model.weights,
                "threshold": calibration.threshold,
                "pixel_threshold": calibration.pixel_threshold,
                "false_alarm_rate": calibration.false_alarm_rate,
                "num_held_out_normal": calibration.num_held_out_normal,
                "num_accepted": calibration.num_accepted,
                "held_out_scores": list(calibration.held_out_scores),
                "pictures": list(service.pictures),
                "photos_a_request": service.limits.photos,
                "mib_a_request": service.limits.body_mib,
                "corrections": not isinstance(why_not, str),
                "no_corrections": why_not if isinstance(why_not, str) else None,
                "watching": self._watch is not None,
                "version": diffad_jax.__version__,
            }
        )

    async def _predict(self, request: Request) -> Response:
        service, wanted = self._service, self._wanted_pictures(request)
        again = request.query_params.get("again") == "yes"
        with service.gate.enter() as held:
            uploads = await read_uploads(request, held, service.limits)
            answers = await asyncio.gather(*(service.judge(u, wanted, again) for u in uploads))
        unreadable = all("error" in answer for answer in answers)
        return JSONResponse({"photos": answers}, 422 if unreadable else 200)

    async def _list_watched(self, request: Request) -> Response:
        after = _number(request.query_params, "after", 0)
        return JSONResponse({"photos": self._need_watch().after(int(after))})

    async def _watched(self, request: Request) -> Response:
        number, wanted = _number(request.path_params, "number"), self._wanted_pictures(request)
        with self._service.gate.enter() as held:
            upload = await self._need_watch().read(int(number))
            held.add(num_bytes=len(upload.data))
            inspected = await self._inspect(upload)
            answer = await self._service.describe(inspected, wanted)
        return JSONResponse({"id": int(number), **answer})

    async def _corrections(self, request: Request) -> Response:
        return JSONResponse(self._need_learning().state())

    async def _correct(self, request: Request) -> Response:
        learning, service, query = self._need_learning(), self._service, request.query_params
        with service.gate.enter() as held:
            if "watched" in query:
                upload = await self._need_watch().read(int(_number(query, "watched")))
                held.add(num_bytes=len(upload.data))
            else:
                upload, *more = await read_uploads(request, held, service.limits)
                if more:
                    raise HTTPException(400, "a correction is of one photo")
            inspected = await self._inspect(upload)
            await learning.keep(inspected, query.get("label", ""), _who(query))
        return JSONResponse({"sha256": inspected.sha256, **learning.state()}, 201)

    async def _effect(self, request: Request) -> Response:
        return JSONResponse(await self._need_learning().effect())

    async def _recalibrate(self, request: Request) -> Response:
        query = request.query_params
        learning = self._need_learning()
        effect = await learning.take(_number(query, "threshold"), _who(query))
        return JSONResponse(effect | learning.state(), 201)

    async def _undo(self, request: Request) -> Response:
        learning = self._need_learning()
        await learning.undo(_who(request.query_params))
        return JSONResponse(learning.state(), 201)

    async def _inspect(self, upload) -> Inspected:
        try:
            return await self._service.inspect(upload)
        except BadImage as error:
            raise HTTPException(422, f"the photo {error}") from error

    def _wanted_pictures(self, request: Request) -> list[str]:
        wanted = list(filter(None, request.query_params.get("pictures", "").split(",")))
        if set(wanted) - set(self._service.pictures):
            known = ", ".join(self._service.pictures)
            raise HTTPException(400, f"pictures: choose some of {known}")
        return wanted

    def _need_learning(self) -> Learning:
        if isinstance(self._learning, str):
            raise HTTPException(409, self._learning)
        return self._learning

    def _need_watch(self) -> Watch:
        if self._watch is None:
            raise HTTPException(409, "no folder is watched: start with --watch=FOLDER")
        return self._watch


def _number(query: Mapping[str, str], name: str, default: float | None = None) -> float:
    try:
        value = float(query[name] if default is None else query.get(name, default))
        if abs(value) < 2**53:
            return value
    except (KeyError, ValueError):
        pass
    raise HTTPException(400, f"{name} must be a number")


def _who(query: Mapping[str, str]) -> str:
    return query.get("who", "")[:_MOST_WHO]


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _conflict(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 409)


async def _unwritten(request: Request, error: Exception) -> Response:
    # Without Retry-After, because a full disk needs a person.
    return JSONResponse({"error": f"it could not be kept: {error}"}, 503)


async def _stopping(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 503, RETRY_AFTER)
