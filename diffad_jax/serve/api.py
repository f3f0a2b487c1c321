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
from diffad_jax.serve.categories import Categories, Entry
from diffad_jax.serve.guard import Guard
from diffad_jax.serve.learning import Learning
from diffad_jax.serve.limits import RETRY_AFTER, Upload, read_uploads
from diffad_jax.serve.openapi import description
from diffad_jax.serve.service import Inspected, Service
from diffad_jax.serve.watch import Watch

_MOST_WHO = 100  # characters


class Api:
    """The routes of one server."""

    def __init__(self, categories: Categories, watch: Watch | None = None):
        self._categories, self._common, self._watch = categories, categories.common, watch
        self._page = page.render()

    def app(self, token: str = "") -> ASGIApp:
        """The application for uvicorn; with a ``token``, all routes but the page demand it."""
        routes = [
            Route("/", self._show_page),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
            Route("/v1/categories", self._list_categories),
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
        return Guard(app, token, self._common.counts, paths)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._watch.run()) if self._watch else None
        yield
        if watching:
            watching.cancel()
            await asyncio.wait([watching])
        await asyncio.to_thread(self._categories.close)

    async def _show_page(self, request: Request) -> Response:
        html, policy = self._page
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})

    async def _health(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _metrics(self, request: Request) -> Response:
        return Response(self._common.counts.text(), media_type="text/plain; version=0.0.4")

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(description())

    async def _list_categories(self, request: Request) -> Response:
        found = self._categories
        return JSONResponse({"categories": [*found.entries], "told_by_photo": found.tells})

    async def _model(self, request: Request) -> Response:
        service, why_not = self._named(request)
        model, limits = service.model, self._common.limits
        calibration = model.calibration
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
                "photos_a_request": limits.photos,
                "mib_a_request": limits.body_mib,
                "corrections": not isinstance(why_not, str),
                "no_corrections": why_not if isinstance(why_not, str) else None,
                "watching": self._watch is not None,
                "version": diffad_jax.__version__,
            }
        )

    async def _predict(self, request: Request) -> Response:
        wanted, name = self._wanted_pictures(request), _category(request)
        again, judge = request.query_params.get("again") == "yes", self._categories.judge
        with self._common.gate.enter() as held:
            uploads = await read_uploads(request, held, self._common.limits)
            answers = await asyncio.gather(*(judge(u, name, wanted, again) for u in uploads))
        unreadable = all("error" in answer for answer in answers)
        return JSONResponse({"photos": answers}, 422 if unreadable else 200)

    async def _list_watched(self, request: Request) -> Response:
        after = _number(request.query_params, "after", 0)
        return JSONResponse({"photos": self._need_watch().after(int(after))})

    async def _watched(self, request: Request) -> Response:
        number, wanted = _number(request.path_params, "number"), self._wanted_pictures(request)
        with self._common.gate.enter() as held:
            upload, name = await self._need_watch().read(int(number))
            held.add(num_bytes=len(upload.data))
            service = self._categories.named(name).service
            answer = await service.describe(await _inspect(service, upload), wanted)
        return JSONResponse({"id": int(number), **answer})

    async def _corrections(self, request: Request) -> Response:
        return JSONResponse(self._need_learning(request).state())

    async def _correct(self, request: Request) -> Response:
        learning, query = self._need_learning(request), request.query_params
        service = self._named(request).service
        with self._common.gate.enter() as held:
            if "watched" in query:
                upload, _ = await self._need_watch().read(int(_number(query, "watched")))
                held.add(num_bytes=len(upload.data))
            else:
                upload, *more = await read_uploads(request, held, self._common.limits)
                if more:
                    raise HTTPException(400, "a correction is of one photo")
            inspected = await _inspect(service, upload)
            await learning.keep(inspected, query.get("label", ""), _who(query))
        return JSONResponse({"sha256": inspected.sha256, **learning.state()}, 201)

    async def _effect(self, request: Request) -> Response:
        return JSONResponse(await self._need_learning(request).effect())

    async def _recalibrate(self, request: Request) -> Response:
        query, learning = request.query_params, self._need_learning(request)
        effect = await learning.take(_number(query, "threshold"), _who(query))
        return JSONResponse(effect | learning.state(), 201)

    async def _undo(self, request: Request) -> Response:
        learning = self._need_learning(request)
        await learning.undo(_who(request.query_params))
        return JSONResponse(learning.state(), 201)

    def _named(self, request: Request) -> Entry:
        return self._categories.named(_category(request))

    def _wanted_pictures(self, request: Request) -> list[str]:
        wanted = list(filter(None, request.query_params.get("pictures", "").split(",")))
        known = self._categories.first.pictures
        if set(wanted) - set(known):
            raise HTTPException(400, f"pictures: choose some of {', '.join(known)}")
        return wanted

    def _need_learning(self, request: Request) -> Learning:
        learning = self._named(request).learning
        if isinstance(learning, str):
            raise HTTPException(409, learning)
        return learning

    def _need_watch(self) -> Watch:
        if self._watch is None:
            raise HTTPException(409, "no folder is watched: start with --watch=FOLDER")
        return self._watch


async def _inspect(service: Service, upload: Upload) -> Inspected:
    try:
        return await service.inspect(upload)
    except BadImage as error:
        raise HTTPException(422, f"the photo {error}") from error


def _category(request: Request) -> str:
    return request.query_params.get("category", "")


def _number(query: Mapping[str, str], name: str, default: float | None = None) -> float:
    try:
        value = float(query[name] if default is None else query.get(name, default))
        if abs(value) < 2**53:
            return value
    except (KeyError, ValueError):
        pass
    raise HTTPException(400, f"{name} must be a number, as ?{name}=NUMBER behind the address")


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
