"""A web server for a folder on this machine, for trying the page and for its tests."""

import functools
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(SimpleHTTPRequestHandler):
    """Says of each file what it is, whatever this machine's tables say, and has browsers ask again each time."""

    protocol_version = "HTTP/1.1"
    extensions_map = {  # noqa: RUF012 - the parent's name
        ".css": "text/css",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript",
        ".json": "application/json",
        ".mjs": "text/javascript",
        ".onnx": "application/octet-stream",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
        ".woff2": "font/woff2",
        "": "application/octet-stream",
    }

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing of requests that went well."""

    def log_error(self, *arguments: object) -> None:
        SimpleHTTPRequestHandler.log_message(self, *arguments)


def make_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """Listen on this machine alone; port 0 is any that is free."""
    return ThreadingHTTPServer(("127.0.0.1", port), functools.partial(_Handler, directory=str(folder)))


def address(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/"
