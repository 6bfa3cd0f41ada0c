"""As much of the Hugging Face Hub as an upload and a download need, on this machine.

    with HubServer() as hub:
        run_script("trainer.py", "hub.push=true", cwd=folder, **hub.environment(tmp_path))
    assert "model.safetensors" in hub.files("me/adder")

    hub.refuse("POST .*/commit/", 429, times=2, Retry_After="1")        busy, then not
    hub.refuse("PUT /large/", RESET, times=1)                           the connection breaks in mid-upload

huggingface_hub reads HF_ENDPOINT when it is imported. Where it already is, as in a process that was forked from this
one, fork_script("trainer.py", "hub.push=true", cwd=folder, before=lambda: hub.take_over(tmp_path)).
"""

import base64
import hashlib
import io
import json
import math
import os
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit

import huggingface_hub

TOKEN = "hf_not_a_real_token_but_looked_for_everywhere"
# In place of a status: the connection is cut while the request's body is sent, or when all is done but the answer.
RESET, LOST = 0, -1


class Commit(NamedTuple):
    """A state of a branch."""

    sha: str
    message: str
    files: dict[str, bytes]


@dataclass
class Refusal:
    """Requests that are not served, `times` more times."""

    request: str
    status: int
    times: float
    headers: dict[str, str]


class HubServer:
    """Keeps what is uploaded in memory.

    Attributes:
        branches: {("me/adder", "main"): its commits, oldest first}.
        requests: "METHOD path" of each, in order.
        created: what each repository was asked to be.
        role: of the token: "write" or "read".
    """

    def __init__(self) -> None:
        self.branches: dict[tuple[str, str], list[Commit]] = {}
        self.requests: list[str] = []
        self.created: list[dict] = []
        self.role = "write"
        self.refusals: list[Refusal] = []
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

    def constants(self, home: Path) -> dict[str, object]:
        """What huggingface_hub has read from these variables where it was imported with them."""
        return {
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_DISABLE_XET": True,
            "HF_TOKEN_PATH": str(home / "no-token"),
            "HF_HUB_CACHE": str(home / "cache"),
        }

    def take_over(self, home: Path) -> None:
        """Let this process take this for the Hub, as one that was started with `environment`; it has no way back."""
        os.environ.update(self.environment(home))
        for name, value in self.constants(home).items():
            setattr(huggingface_hub.constants, name, value)

    def refuse(self, request: str, status: int, times: float = math.inf, **headers: str) -> None:
        """Answer requests "METHOD path" that begin like a pattern with a status instead."""
        self.refusals.append(Refusal(request, status, times, headers))

    def commits(self, name: str, branch: str = "main") -> list[Commit]:
        return self.branches[name, branch]

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        return self.commits(name, branch)[-1].files

    def at(self, name: str, revision: str) -> Commit | None:
        """The newest commit of a branch, or the commit of this sha."""
        if (name, revision) in self.branches:
            return self.commits(name, revision)[-1]
        everything = [commit for (owner, _), commits in self.branches.items() if owner == name for commit in commits]
        return next((commit for commit in everything if commit.sha == revision), None)

    def add_commit(self, name: str, branch: str, message: str, files: dict[str, bytes]) -> str:
        commits = self.branches.setdefault((name, branch), [])
        sha = hashlib.sha1(f"{name} {branch} {len(commits)}".encode()).hexdigest()
        commits.append(Commit(sha, message, files))
        return sha


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
        request = f"{self.command} {self.path_asked}"
        self.hub.requests.append(request)
        refusal = next((one for one in self.hub.refusals if one.times and re.match(one.request, request)), None)
        if refusal:
            refusal.times -= 1
        size = int(self.headers.get("Content-Length") or 0)
        if refusal and refusal.status == RESET:
            self.rfile.read(min(1, size))
            return self.cut_off()
        self.body = self.rfile.read(size)
        if refusal and refusal.status == LOST:
            self.wfile = io.BytesIO()
            self.reply(request)
            return self.cut_off()
        if refusal:
            return self.answer(refusal.status, {"error": "refused by the test"}, **refusal.headers)
        return self.reply(request)

    def reply(self, request: str) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not self.path_asked.startswith("/large/"):
            return self.answer(401, {"error": "Invalid username or password."})
        for pattern, reply in _ROUTES.items():
            if found := re.fullmatch(pattern, request):
                return reply(self, *found.groups())
        return self.answer(404, {"error": f"no such thing: {request}"})

    do_GET = do_HEAD = do_POST = do_PUT = do_CONNECT = serve

    def cut_off(self) -> None:
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.rfile.close()
        self.connection.close()

    # ---- What is answered ----

    def whoami(self) -> None:
        self.answer(200, {"type": "user", "name": "me", "auth": {"accessToken": {"role": self.hub.role}}})

    def create(self) -> None:
        self.hub.created.append(self.asked())
        name = f"{self.asked().get('organization') or 'me'}/{self.asked()['name']}"
        is_new = (name, "main") not in self.hub.branches
        if is_new:
            self.hub.add_commit(name, "main", "initial commit", {})
        self.answer(200 if is_new else 409, {"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def create_branch(self, name: str, branch: str) -> None:
        is_new = (name, branch) not in self.hub.branches
        if is_new:
            self.hub.branches[name, branch] = list(self.hub.commits(name))
        self.answer(200 if is_new else 409, {})

    def validate_card(self) -> None:
        self.answer(200, {"errors": [], "warnings": []})

    def describe(self, name: str, revision: str | None) -> None:
        if (name, "main") not in self.hub.branches:
            return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        commit = self.hub.at(name, revision or "main")
        if commit is None:
            return self.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        files = [{"rfilename": path} for path in commit.files]
        return self.answer(200, {"id": name, "modelId": name, "sha": commit.sha, "private": True, "siblings": files})

    def list_files(self, name: str, revision: str) -> None:
        files = self.hub.at(name, revision).files.items()
        self.answer(200, [{"type": "file", "path": p, "size": len(c), "oid": _git_id(c)} for p, c in files])

    def say_how_to_upload(self, name: str, branch: str) -> None:
        files = self.hub.files(name, branch)
        told = [
            {
                "path": path,
                "uploadMode": "lfs" if _is_large(path) else "regular",
                "shouldIgnore": False,
                "oid": _id(path, files[path]) if path in files else None,
            }
            for path in (file["path"] for file in self.asked()["files"])
        ]
        self.answer(200, {"files": told})

    def say_where_to_put_large_files(self, name: str) -> None:
        objects = []
        for one in self.asked()["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/large/{one['oid']}", "header": {}}}
            objects.append(one if one["oid"] in self.hub.large_files else {**one, "actions": actions})
        self.answer(200, {"transfer": "basic", "objects": objects})

    def take_large_file(self, sha256: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == sha256
        self.hub.large_files[sha256] = self.body
        self.answer(200)

    def commit(self, name: str, branch: str) -> None:
        files, message = dict(self.hub.files(name, branch)), ""
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "header":
                message = value["summary"]
            elif operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.large_files[value["oid"]]
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        sha = self.hub.add_commit(name, branch, message, files)
        self.answer(200, {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{name}/commit/{sha}"})

    def download(self, name: str, revision: str, path: str) -> None:
        commit = self.hub.at(name, revision)
        if commit is None or path not in commit.files:
            return self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        content = commit.files[path]
        return self.answer(200, content, ETag=f'"{_id(path, content)}"', X_Repo_Commit=commit.sha)

    def asked(self) -> dict:
        return json.loads(self.body)


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES: dict[str, Callable] = {
    r"GET /api/whoami-v2": _Handler.whoami,
    r"POST /api/repos/create": _Handler.create,
    r"POST /api/validate-yaml": _Handler.validate_card,
    rf"GET /api/(?:models|spaces)/{_NAME}(?:/revision/([\w-]+))?": _Handler.describe,
    rf"GET /api/models/{_NAME}/tree/([\w-]+)": _Handler.list_files,
    rf"POST /api/models/{_NAME}/branch/([\w-]+)": _Handler.create_branch,
    rf"POST /api/(?:models|spaces)/{_NAME}/preupload/([\w-]+)": _Handler.say_how_to_upload,
    rf"POST /(?:spaces/)?{_NAME}\.git/info/lfs/objects/batch": _Handler.say_where_to_put_large_files,
    r"PUT /large/(\w+)": _Handler.take_large_file,
    rf"POST /api/(?:models|spaces)/{_NAME}/commit/([\w-]+)": _Handler.commit,
    rf"(?:GET|HEAD) /{_NAME}/resolve/([\w-]+)/(.+)": _Handler.download,
}


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".png", ".onnx"))


def _id(path: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if _is_large(path) else _git_id(content)


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()
