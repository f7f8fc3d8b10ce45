"""What the lists of bad input are made of; see bad_input_test.py."""

import dataclasses
import pathlib
import typing

import grpc

import pot_testing
from pot_testing import ModelRef
from pot_testing import PATIENCE
from pot_testing import pb

INVALID = "INVALID_ARGUMENT"

# Stands for bytes that are not UTF-8 in a message that Python would refuse to
# build with them; as long as what replaces it.
BAD_TEXT = "\x7f\x7f"
_BAD_BYTES = b"\xc3\x28"


@dataclasses.dataclass
class World:
  """What the calls work on."""
  server: pot_testing.Server
  directory: pathlib.Path  # scratch space
  repository: pathlib.Path
  imports: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Case:
  """One piece of bad input.

  `call(world)` must fail: with grpc.RpcError, or by returning a finished
  process. `code` is the name of the status code or "exit N". The message has
  to contain `fragment`.
  """
  what: str
  how: str
  call: typing.Callable[[World], typing.Any]
  code: str
  fragment: str
  reason: typing.Optional[str] = None


def shown(value, limit=48):
  text = repr(value)
  if len(text) <= limit:
    return text
  size = f" of {len(value)}" if hasattr(value, "__len__") else ""
  return f"{text[:limit - 3]}...{size}"


def raw_call(world, method, data):
  """Calls `method` with bytes; a list of bytes is a stream of messages."""
  kind = "stream" if isinstance(data, list) else "unary"
  multi = getattr(world.server.channel, f"{kind}_stream")(method)
  return list(multi(iter(data) if kind == "stream" else data,
                    timeout=PATIENCE))


def with_bad_text(message):
  data = message.SerializeToString()
  assert data.count(BAD_TEXT.encode()) == 1
  return data.replace(BAD_TEXT.encode(), _BAD_BYTES)


def unary(service, method, message):
  """A call that takes `message`; the answer may be a stream."""

  def call(world):
    stub = world.server.inference if service == "Inference" \
        else world.server.models
    answer = getattr(stub, method)(message, timeout=PATIENCE)
    return list(answer) if isinstance(answer, grpc.Call) else answer

  return call


def streamed(service, method, messages):
  """A call that takes a stream of messages."""

  def call(world):
    stub = world.server.inference if service == "Inference" \
        else world.server.models
    answer = getattr(stub, method)(iter(messages), timeout=PATIENCE)
    return list(answer) if isinstance(answer, grpc.Call) else answer

  return call


def ref(name="tiny", **selector):
  return ModelRef(name=name, **selector)


def models(method, message, what, code, fragment, reason):
  """A case of one unary call of ModelService."""
  how = f"{method}({shown(str(message).replace(chr(10), ' ').strip(), 90)})"
  return Case(what, how, unary("Model", method, message), code, fragment,
              reason)


__all__ = ["BAD_TEXT", "Case", "INVALID", "World", "models", "pb", "raw_call",
           "ref", "shown", "streamed", "unary", "with_bad_text"]
