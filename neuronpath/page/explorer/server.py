"""The explorer's server: the standard library's, on this computer alone unless it is asked otherwise, with nothing from elsewhere.

The page asks only this server, and this server answers only its own page: requests whose Host is somebody else's name (DNS
rebinding), or that another site's page sends, are refused.
"""

import contextlib
import ipaddress
import json
import logging
import select
import socket
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from ...checks import InputError
from ..render import html, palette
from . import answers, compare, faces
from .explorer import Ask, Explorer, Plain, about
from .gallery import MOST_BYTES, NotHeld
from .turns import Gone

MOST_JSON = 256 * 2**10  # bytes of a question
MOST_CONNECTIONS, UPLOADS = 64, 4  # at a time
PATIENCE = 20.0  # seconds without a byte
DRAINED = 256 * 2**20  # bytes of a refused upload that are read and forgotten, so that the refusal is heard

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
JSON, TEXT = "application/json", "; charset=utf-8"

QUESTIONS: dict[str, Callable[[Ask], Plain]] = {
    "/api/predict": answers.predict,
    "/api/explain": answers.explain,
    "/api/graph": answers.graph,
    "/api/change": answers.change,
    "/api/compare": compare.compare,
    "/api/unit": faces.face,
    "/api/pixels": faces.pixels,
    "/api/made": faces.made,
}


class Server(ThreadingHTTPServer):
    """An explorer at an address; ``url`` is what a browser opens."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, explorer: Explorer, host: str = "127.0.0.1", port: int = 7860) -> None:
        self.explorer, self.host = explorer, host
        self.uploads = BoundedSemaphore(UPLOADS)
        self._connections = BoundedSemaphore(MOST_CONNECTIONS)
        try:
            self.address_family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            super().__init__(place[:2], Handler)  # type: ignore[arg-type]
        except (OSError, OverflowError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"{host}:{port} can't be served at: {str(reason).lower()}; expected another --port"
            ) from None

    @property
    def url(self) -> str:
        """Where the page is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hangs up in the middle is no error."""

    def server_close(self) -> None:
        self.explorer.ended.set()
        super().server_close()


class Refused(Exception):  # noqa: N818
    """A request that isn't answered, with its status."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    server_version, sys_version = "neuronpath", ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        """The page, its script and style, the images."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """A question, or an upload."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what people look at is theirs."""

    def _get(self) -> None:
        at = self._address()
        explorer = self.server.explorer
        if at.path in ("/explorer.js", "/explorer.css"):
            self._send(asset(at.path[1:]).encode(), f"text/{'javascript' if at.path.endswith('js') else 'css'}{TEXT}")
        elif at.path == "/":
            known = about(explorer)
            data = {"palette": palette(), "most_bytes": MOST_BYTES, **known}
            page = html("explorer/explorer.html", about=known, data=data)
            self._send(page.encode(), f"text/html{TEXT}")
        elif at.path == "/api/images":
            start = parse_qs(at.query).get("from", ["0"])[0]
            self._json(answers.gallery(explorer, int(start) if start.isdecimal() and len(start) < 10 else -1))
        elif at.path.startswith("/picture/"):
            image = explorer.gallery.image(unquote(at.path.removeprefix("/picture/")))
            self._send(image.picture, f"image/{image.kind}")
        else:
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing at this address")

    def _post(self) -> None:
        at = self._address()
        if at.path == "/api/upload":
            name = parse_qs(at.query).get("name", ["upload"])[0]
            with self.server.uploads:
                content = self._body("application/octet-stream", MOST_BYTES)
                image = self.server.explorer.gallery.upload(content, name)
            self._json({"id": image.id, "name": image.name})
        elif at.path in QUESTIONS:
            self._json(QUESTIONS[at.path](self._asked()))
        elif at.path == "/api/report":
            self._send(answers.report(self._asked()).encode(errors="replace"), "application/octet-stream")
        else:
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing at this address")

    def _address(self) -> SplitResult:
        try:
            return urlsplit(self.path)
        except ValueError:  # such as of "http://["
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing at this address") from None

    def _asked(self) -> Ask:
        try:
            body = json.loads(self._body(JSON, MOST_JSON))
        except (ValueError, RecursionError):
            raise InputError("the question is no JSON") from None
        return Ask(self.server.explorer, body, self._gone)

    def _answer(self, answer: Callable[[], None]) -> None:
        try:
            self._check_sender()
            answer()
        except Gone:
            self.close_connection = True
        except NotHeld as error:
            self._json({"error": str(error)}, HTTPStatus.GONE)
        except InputError as error:
            self._json({"error": str(error)}, HTTPStatus.BAD_REQUEST)
        except Refused as error:
            self._json({"error": str(error)}, error.status)
        except (TimeoutError, ConnectionError):
            self.close_connection = True
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            logging.getLogger(__name__).exception("the explorer can't answer %s (%s)", urlsplit(self.path).path, told)
            self._json(
                {"error": f"this failed ({type(error).__name__}); the terminal says more"},
                HTTPStatus.INTERNAL_SERVER_ERROR,
            )

    def _check_sender(self) -> None:
        """Refuse what no page of this server's sends."""
        host = self.headers.get("Host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:  # "["
            name = ""
        if name not in ("localhost", self.server.host) and not _is_number(name):
            raise Refused(HTTPStatus.FORBIDDEN, f"this is no server of {name[:60]!r}; open {self.server.url}")
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{host}".lower():
            raise Refused(HTTPStatus.FORBIDDEN, "pages of other sites can't ask here")
        site = self.headers.get("Sec-Fetch-Site", "same-origin")
        if site not in ("same-origin", "none") and self.path != "/":
            raise Refused(HTTPStatus.FORBIDDEN, "pages of other sites can't ask here")

    def _body(self, kind: str, most: int) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 15:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length")
        if self.headers.get_content_type() != kind:
            self._drain(int(length))
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"expected {kind}")
        if int(length) > most:
            self._drain(int(length))
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{int(length):,} bytes are too many; expected at most {most:,}"
            )
        content = self.rfile.read(int(length))
        if len(content) < int(length):
            raise ConnectionError
        return content

    def _drain(self, length: int) -> None:
        left = min(length, DRAINED)
        while left > 0 and (part := self.rfile.read1(min(left, 2**16))):
            left -= len(part)

    def _gone(self) -> bool:
        """Whether the one who asked has hung up."""
        try:
            ready = select.select([self.connection], [], [], 0)[0]
            return bool(ready) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _json(self, found: Plain, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(found, allow_nan=False).encode(), JSON, status)

    def _send(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)


@cache
def asset(name: str) -> str:
    """The page's script, or its style."""
    parts = {
        "explorer.js": (
            "parts.js",
            "explorer/explorer.js",
            "explorer/faces.js",
            "explorer/taken.js",
            "explorer/choices.js",
        ),
        "explorer.css": ("report.css", "explorer/explorer.css"),
    }
    return "\n".join(html(part) for part in parts[name])


def _is_number(name: str) -> bool:
    """Whether a host is an IP address, which no name can be rebound to."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return False
