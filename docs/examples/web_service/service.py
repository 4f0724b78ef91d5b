"""
A web service that receives files and uploads them, and survives network failures and restarts.

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
    """Create the service with the settings of the environment."""
    return create_app(Path(os.environ["SPOOL"]), os.environ["TARGET"])


def create_app(spool: Path, target: str, config: TransferConfig | None = None) -> Starlette:
    """
    Create the service.

    Args:
        spool: a directory on a persistent disk, with enough space for all files in transit.
        target: the URL to upload to, such as ``oss://examplebucket/incoming/``. Its path is the prefix of all keys.
        config: the transfer settings.
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
        with suppress(ClientDisconnect):  # no client is left to respond to
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
