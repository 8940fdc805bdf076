"""An explorer that is served, and how it is asked."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from threading import Thread
from typing import Any

from neuronpath.page.explorer.explorer import Explored, Explorer
from neuronpath.page.explorer.gallery import Given
from neuronpath.page.explorer.server import Server


class Asked:
    """The server's address, and requests as a browser's page would make them."""

    def __init__(self, server: Server) -> None:
        self.server, self.explorer, self.url = server, server.explorer, server.url
        self.port = server.server_address[1]

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    def get(self, path: str, **headers: str) -> tuple[int, dict, bytes]:
        return self.request("GET", path, **headers)

    def ask(self, question: str, body: Any, status: int = 200) -> Any:
        found = self.request("POST", f"/api/{question}", json.dumps(body).encode(), Content_Type="application/json")
        assert found[0] == status, found
        return json.loads(found[2])

    def upload(self, content: bytes, name: str = "a.png", status: int = 200) -> Any:
        found = self.request("POST", f"/api/upload?name={name}", content, Content_Type="application/octet-stream")
        assert found[0] == status, found
        return json.loads(found[2])


@contextmanager
def served(models: list[Explored], given: Given, limit: int = 60, reference: Given | None = None) -> Iterator[Asked]:
    """An explorer whose images have all been read."""
    explorer = Explorer(models, given, limit, reference)
    server = Server(explorer, port=0)
    Thread(target=server.serve_forever, daemon=True).start()
    for survey in explorer.read:
        survey.run(explorer.turns, explorer.ended)
    yield Asked(server)
    server.shutdown()
    server.server_close()
