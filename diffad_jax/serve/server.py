"""Starts the server, and stops it without losing requests that it has begun."""

import logging
import os
import secrets
import socket
from urllib.parse import quote

import uvicorn

from diffad_jax.errors import ConfigError
from diffad_jax.runtime import console
from diffad_jax.runtime.signals import StopSignal
from diffad_jax.serve.api import Api
from diffad_jax.serve.guard import is_loopback

TOKEN = "DIFFAD_TOKEN"  # of the environment
_DRAIN = 60  # seconds for running requests when the server is stopped


def run(api: Api, host: str, port: int) -> None:
    """Serves until SIGTERM or Ctrl-C; then takes nothing new and answers running requests.

    If other machines can reach ``host``, they need a token: the environment's ``DIFFAD_TOKEN``, or
    else a new one, which is printed once.

    Raises:
      ConfigError: a token of fewer than 16 characters; nothing can listen at that address.
    """
    token = _token(host)
    # The sender of a broken form gets an answer; the console needs no line.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    with StopSignal(), _listening(host, port) as listening:
        port = listening.getsockname()[1]
        console.say(_address(host, port, token))
        config = uvicorn.Config(
            api.app(token),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_DRAIN,
            ws="none",
        )
        uvicorn.Server(config).run(sockets=[listening])
    console.note("stopped; every request that was taken has its answer")


def _address(host: str, port: int, token: str) -> str:
    """What a browser opens; the page decodes the token."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"#token={quote(token, safe='')}" if token else "")


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"cannot listen at {host}, port {port}: {error}: choose another --port or --host"
        ) from error


def _token(host: str) -> str:
    given = os.environ.get(TOKEN, "")
    if given and len(given) < 16:
        raise ConfigError(f"{TOKEN} has {len(given)} characters: give it 16 or more")
    return given or ("" if is_loopback(host) else secrets.token_urlsafe(32))
