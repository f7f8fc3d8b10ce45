"""HTTP/2 without a library, for clients that do what no library does."""

import socket
import ssl
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 1, 3, 4, 6, 7
END_HEADERS = 4
ENHANCE_YOUR_CALM = 11


def frame(kind, payload=b"", *, flags=0, stream=0):
  return (struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
          + struct.pack(">I", stream) + payload)


def _text(value):
  assert len(value) < 127
  return bytes([len(value)]) + value.encode()


def request_headers(path):
  """A gRPC call's header block (RFC 7541), nothing of it indexed or packed."""
  return (b"\x83\x87"  # :method POST, :scheme https
          + b"\x04" + _text(path) + b"\x01" + _text("localhost")
          + b"\x00" + _text("te") + _text("trailers")
          + b"\x0f\x10" + _text("application/grpc"))


class Connection:
  """A connection, with TLS unless told otherwise, whose reads time out."""

  def __init__(self, port, *, tls=True, timeout=20):
    self.socket = socket.create_connection(("127.0.0.1", port), timeout)
    if tls:
      context = ssl.create_default_context()
      context.check_hostname = False
      context.verify_mode = ssl.CERT_NONE
      context.set_alpn_protocols(["h2"])
      self.socket = context.wrap_socket(self.socket)

  def open(self):
    self.send(PREFACE + frame(SETTINGS))
    return self

  def send(self, data):
    self.socket.sendall(data)

  def read(self, size):
    """All `size` bytes, or those before the end."""
    data = b""
    while len(data) < size:
      try:
        piece = self.socket.recv(size - len(data))
      except (ConnectionError, ssl.SSLError):
        break
      if not piece:
        break
      data += piece
    return data

  def frames(self):
    """(kind, flags, stream, payload) until the connection ends."""
    while True:
      head = self.read(9)
      if len(head) < 9:
        return
      payload = self.read(int.from_bytes(head[:3], "big"))
      yield head[3], head[4], int.from_bytes(head[5:], "big"), payload

  def goaway(self):
    """The error code of the GOAWAY that ends it; None without one."""
    code = None
    for kind, _, _, payload in self.frames():
      if kind == GOAWAY:
        code = int.from_bytes(payload[4:8], "big")
        if code != 0:
          return code
    return code

  def close(self):
    self.socket.close()

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()
