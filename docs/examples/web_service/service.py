"""
A web service that takes files and stores them, on a connection that breaks and a machine that restarts.

    TARGET=oss://examplebucket/incoming/ SPOOL=/var/spool/uploads uvicorn --factory service:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from uploads import Refused, Uploads

from partwise import TransferConfig, open_backend

PAGE = Path(__file__).with_name("page.html")


def app() -> Starlette:
    """The service as the environment asks for it."""
    return create_app(Path(os.environ["SPOOL"]), os.environ["TARGET"])


def create_app(spool: Path, target: str, config: TransferConfig | None = None) -> Starlette:
    """
    The service.

    Args:
        spool: a directory on a disk that outlives the service, with room for the files that are on their way.
        target: where to, such as ``oss://examplebucket/incoming/``; what follows the bucket begins each key.
        config: how to transfer.
    """
    backend, prefix = open_backend(target)
    uploads = Uploads(spool, backend, prefix, config)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with closing(backend):
            async with uploads.running():
                yield

    async def page(_: Request) -> Response:
        return FileResponse(PAGE)

    async def report(_: Request) -> Response:
        return JSONResponse(uploads.report(), headers={"Cache-Control": "no-store"})

    async def receive(request: Request) -> Response:
        length = request.headers.get("Content-Length")
        with suppress(ClientDisconnect):  # there is nobody left to answer
            await uploads.receive(_name(request), int(length) if length else None, request.stream())
        return Response(status_code=202)

    async def pause(request: Request) -> Response:
        uploads.pause(_name(request))
        return Response(status_code=202)

    async def resume(request: Request) -> Response:
        uploads.resume(_name(request))
        return Response(status_code=202)

    async def drop(request: Request) -> Response:
        await uploads.drop(_name(request))
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/uploads", report),
            Route("/uploads/{name}", receive, methods=["PUT"]),
            Route("/uploads/{name}", drop, methods=["DELETE"]),
            Route("/uploads/{name}/pause", pause, methods=["POST"]),
            Route("/uploads/{name}/resume", resume, methods=["POST"]),
        ],
        exception_handlers={Refused: lambda _, error: JSONResponse({"error": str(error)}, status_code=409)},
        lifespan=lifespan,
    )


def _name(request: Request) -> str:
    return str(request.path_params["name"])
