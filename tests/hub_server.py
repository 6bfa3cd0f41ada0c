"""As much of the Hugging Face Hub as an upload and a download need, on this machine.

    with HubServer() as hub:
        run_script("trainer.py", "hub.push=true", cwd=folder, **hub.environment(tmp_path))
    assert "model.safetensors" in hub.repositories["me/adder"]

huggingface_hub reads HF_ENDPOINT when it is imported, so its client runs in another process.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

TOKEN = "hf_not_a_real_token_but_looked_for_everywhere"
COMMIT = "c0ffee" + 34 * "0"


class HubServer:
    """Keeps what is uploaded in memory.

    Attributes:
        repositories: {"me/adder": {path: content}}.
        requests: "METHOD path" of each, in order.
        created: what each repository was asked to be.
        refusals: {path prefix: status} answered with that status.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.created: list[dict] = []
        self.refusals: dict[str, int] = {}
        self.large_files: dict[str, bytes] = {}  # by sha256
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path, token: str = TOKEN) -> dict[str, str]:
        """Variables for a process that is to take this for the Hub; whatever else it asks for comes here too."""
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), self.url)
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": token,
            "HF_HOME": str(home / "hf-home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **proxies,
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def answer(self, status: int, body: object = None, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def serve(self) -> None:
        self.path_asked = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {self.path_asked}")
        for prefix, status in self.hub.refusals.items():
            if self.path_asked.startswith(prefix):
                return self.answer(status, {"error": "refused by the test"})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not self.path_asked.startswith("/large/"):
            return self.answer(401, {"error": "Invalid username or password."})
        for pattern, reply in _ROUTES.items():
            if found := re.fullmatch(pattern, f"{self.command} {self.path_asked}"):
                return reply(self, *found.groups())
        return self.answer(404, {"error": f"no such thing: {self.command} {self.path_asked}"})

    do_GET = do_HEAD = do_POST = do_PUT = do_CONNECT = serve

    # ---- What is answered ----

    def whoami(self) -> None:
        self.answer(200, {"type": "user", "name": "me", "auth": {"accessToken": {"role": "write"}}})

    def create(self) -> None:
        self.hub.created.append(self.asked())
        name = f"{self.asked().get('organization') or 'me'}/{self.asked()['name']}"
        status = 409 if name in self.hub.repositories else 200
        self.hub.repositories.setdefault(name, {})
        self.answer(status, {"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def validate_card(self) -> None:
        self.answer(200, {"errors": [], "warnings": []})

    def describe(self, name: str) -> None:
        if name not in self.hub.repositories:
            return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        files = [{"rfilename": path} for path in self.hub.repositories[name]]
        return self.answer(200, {"id": name, "modelId": name, "sha": COMMIT, "private": True, "siblings": files})

    def list_files(self, name: str) -> None:
        files = self.hub.repositories[name].items()
        self.answer(200, [{"type": "file", "path": p, "size": len(c), "oid": _git_id(c)} for p, c in files])

    def say_how_to_upload(self, name: str) -> None:
        files = [
            {"path": file["path"], "uploadMode": _mode(file["path"]), "shouldIgnore": False}
            for file in self.asked()["files"]
        ]
        self.answer(200, {"files": files})

    def say_where_to_put_large_files(self, name: str) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.url}/large/{one['oid']}", "header": {}}}}
            for one in self.asked()["objects"]
        ]
        self.answer(200, {"transfer": "basic", "objects": objects})

    def take_large_file(self, sha256: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == sha256
        self.hub.large_files[sha256] = self.body
        self.answer(200)

    def commit(self, name: str) -> None:
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                self.hub.repositories[name][value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                self.hub.repositories[name][value["path"]] = self.hub.large_files[value["oid"]]
        url = f"{self.hub.url}/{name}/commit/{COMMIT}"
        self.answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": url})

    def download(self, name: str, path: str) -> None:
        content = self.hub.repositories.get(name, {}).get(path)
        if content is None:
            return self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        return self.answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=COMMIT)

    def asked(self) -> dict:
        return json.loads(self.body)


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES: dict[str, Callable] = {
    r"GET /api/whoami-v2": _Handler.whoami,
    r"POST /api/repos/create": _Handler.create,
    r"POST /api/validate-yaml": _Handler.validate_card,
    rf"GET /api/models/{_NAME}": _Handler.describe,
    rf"GET /api/models/{_NAME}/revision/\w+": _Handler.describe,
    rf"GET /api/models/{_NAME}/tree/\w+": _Handler.list_files,
    rf"POST /api/models/{_NAME}/preupload/main": _Handler.say_how_to_upload,
    rf"POST /{_NAME}\.git/info/lfs/objects/batch": _Handler.say_where_to_put_large_files,
    r"PUT /large/(\w+)": _Handler.take_large_file,
    rf"POST /api/models/{_NAME}/commit/main": _Handler.commit,
    rf"(?:GET|HEAD) /{_NAME}/resolve/\w+/(.+)": _Handler.download,
}


def _mode(path: str) -> str:
    return "lfs" if path.endswith((".safetensors", ".png")) else "regular"


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()
