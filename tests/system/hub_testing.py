"""A model hub for tests: the routes of Hugging Face's, and a CDN beside it.

`Hub` serves directories as repositories. Large files are redirected to the
CDN, another port, with a signature in the query; both write down what they
were asked, and do wrong what `faults` says.
"""

import hashlib
import http.server
import json
import pathlib
import ssl
import threading
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git_blob_digest(content):
  return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Fault:
  """What a request gets instead, once.

  status: an answer without a body. cut: the connection ends after so many bytes
  of it. body: another one. hold: an event; the answer stops after `cut` bytes
  until it is set.
  """

  def __init__(self, status=None, headers=None, cut=None, body=None, hold=None):
    self.status = status
    self.headers = headers or {}
    self.cut = cut
    self.body = body
    self.hold = hold


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"

  def log_message(self, *unused):
    pass

  def do_HEAD(self):
    self.answer(head=True)

  def do_GET(self):
    self.answer(head=False)

  def answer(self, head):
    hub = self.server.hub
    hub.requests.append((self.server.name, self.command, self.path,
                         dict(self.headers)))
    # One that was cut must not be taken for the next.
    self.close_connection = True
    reply = hub.cdn_reply if self.server.name == "cdn" else hub.hub_reply
    status, headers, body, name = reply(self.path, self.headers)
    fault = Fault()
    if not head:
      with hub.lock:
        if hub.faults.get(name):
          fault = hub.faults[name].pop(0)
    if fault.status:
      status, headers, body = fault.status, {}, b""
    if fault.body is not None:
      body = fault.body
    headers = {"Content-Length": str(len(body)), **headers, **fault.headers}
    self.send_response(status)
    for key, value in headers.items():
      self.send_header(key, value)
    self.send_header("Connection", "close")
    self.end_headers()
    if head:
      return
    try:
      self.wfile.write(body[:fault.cut])
      self.wfile.flush()
      if fault.hold:
        hub.held.set()
        fault.hold.wait(60)
    except OSError:
      pass


class Hub:
  """`models`: repository to directory. `token`: who has none gets 401."""

  def __init__(self, models, *, token=None, certificate=None):
    self.models = {repo: pathlib.Path(path) for repo, path in models.items()}
    self.token = token
    self.lock = threading.Lock()
    self.requests = []
    # By file name, or the repository for its description: a list of Fault.
    self.faults = {}
    self.redirect = None  # of large files, instead of to the CDN
    self.held = threading.Event()
    self.servers = []
    scheme = "https" if certificate else "http"
    for name in ("hub", "cdn"):
      server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
      server.daemon_threads = True
      server.hub, server.name = self, name
      if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
      threading.Thread(target=server.serve_forever, daemon=True).start()
      self.servers.append(server)
    self.url, self.cdn_url = (
        f"{scheme}://127.0.0.1:{server.server_port}" for server in self.servers)
    self.hosts = [url.split("//")[1] for url in (self.url, self.cdn_url)]

  def stop(self):
    for server in self.servers:
      server.shutdown()
      server.server_close()

  def environment(self, cache, **more):
    """For programs that shall use this hub, and no proxy or other cache."""
    return {"HF_ENDPOINT": self.url, "HF_HUB_CACHE": str(cache),
            "HF_HOME": str(cache / "home"), "NO_PROXY": "*", **more}

  def asked(self, server, method="GET"):
    """(path without its query, headers) of requests, in their order."""
    with self.lock:
      return [(path.split("?")[0], headers)
              for name, verb, path, headers in self.requests
              if name == server and verb == method]

  def hub_reply(self, path, headers):
    for repo, directory in self.models.items():
      if not (path.startswith(f"/api/models/{repo}/revision/")
              or path.startswith(f"/{repo}/resolve/")):
        continue
      if self.token and headers["Authorization"] != f"Bearer {self.token}":
        return 401, {"X-Error-Code": "GatedRepo"}, b"", repo
      _, rest = path.split(repo + "/", 1)
      kind, revision, *name = rest.split("/", 2)
      revision = urllib.parse.unquote(revision)
      if revision not in ("main", "v1", COMMIT):
        return 404, {"X-Error-Code": "RevisionNotFound"}, b"", repo
      if kind == "revision":
        files = sorted(path.name for path in directory.iterdir())
        return 200, {"Content-Type": "application/json"}, json.dumps(
            {"id": repo, "sha": COMMIT,
             "lastModified": "2024-02-19T10:57:45.000Z",
             "siblings": [{"rfilename": name} for name in files]}).encode(
             ), repo
      return self.file_reply(repo, directory / name[0])
    return 401, {"X-Error-Code": "RepoNotFound"}, b"", None

  def file_reply(self, repo, file):
    if not file.is_file():
      return 404, {"X-Error-Code": "EntryNotFound"}, b"", file.name
    content = file.read_bytes()
    headers = {"X-Repo-Commit": COMMIT}
    if file.suffix != ".safetensors":
      headers["ETag"] = f'"{git_blob_digest(content)}"'
      return 200, headers, content, file.name
    headers["X-Linked-ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
    headers["X-Linked-Size"] = str(len(content))
    headers["Location"] = self.redirect or (
        f"{self.cdn_url}/{repo}/{file.name}?signature=not-to-be-shown")
    # A fault of the file is the CDN's.
    return 302, headers, b"redirected", None

  def cdn_reply(self, path, headers):
    repo, name = path.split("?")[0][1:].rsplit("/", 1)
    content = (self.models[repo] / name).read_bytes()
    answer = {"ETag": '"of-the-cdn"', "Accept-Ranges": "bytes"}
    if not headers["Range"]:
      return 200, answer, content, name
    begin = int(headers["Range"].removeprefix("bytes=").removesuffix("-"))
    if begin >= len(content):
      return 416, {"Content-Range": f"bytes */{len(content)}"}, b"", name
    answer["Content-Range"] = (
        f"bytes {begin}-{len(content) - 1}/{len(content)}")
    return 206, answer, content[begin:], name
