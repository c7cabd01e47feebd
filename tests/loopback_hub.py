"""A hub of models on this machine, for tests: what the library huggingface_hub asks one for, of a folder's files."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit


def listed(path: str, content: bytes) -> dict[str, str | int]:
    """What a listing says of a file."""
    return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@contextmanager
def served(models: dict[str, Path], commit: str) -> Iterator[SimpleNamespace]:
    """(url, asked: paths of files that were asked for) of a server of {ORG/NAME: folder}, each with one commit, whose
    branch is main; there is a model kept/in too, whose owners let nobody in."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append(self.path)
            self.answer(*self.found(), body=True)

        def do_HEAD(self):
            self.answer(*self.found(), body=False)

        def found(self):
            """(status, content, headers) of a path."""
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            org, name, what, revision, *rest = [*(parts[2:] if api else parts), "", "", "", ""]
            file, folder = "/".join(part for part in rest if part), models.get(f"{org}/{name}")
            if (org, name) == ("kept", "in"):
                return 403, b"{}", {"X-Error-Code": "GatedRepo"}
            if folder is None:
                return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
            if revision not in ("main", commit):
                return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
            files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
            if api and what == "revision":
                told = {"id": f"{org}/{name}", "sha": commit, "siblings": [{"rfilename": path} for path in files]}
                return 200, json.dumps(told).encode(), {}
            if api and what == "tree":
                return 200, json.dumps([listed(*one) for one in files.items()]).encode(), {}
            if file not in files:
                return 404, b"", {"X-Error-Code": "EntryNotFound"}
            tag = hashlib.sha256(files[file]).hexdigest()
            return 200, files[file], {"ETag": f'"{tag}"', "X-Repo-Commit": commit}

        def answer(self, status, content, headers, body):
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", asked=asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
