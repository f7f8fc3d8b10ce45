"""Bad files: models to import, versions to load, checkpoints to upload.

See bad_input_test.py. `prepare(world)` writes the files before the server
starts; the cases then point the server at them.
"""

import hashlib
import json
import os
import pathlib
import shutil
import struct

import pot_testing
from bad_input import Case
from bad_input import INVALID
from bad_input import models
from bad_input import pb
from bad_input import ref
from bad_input import shown
from bad_input import streamed

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
POT = "model.pot.safetensors"
ONE = "transformer.h.0.mlp.c_fc.weight"


# --- Models to import: what is done to a copy of tests/testdata/tiny-bpe ------


def rewrite_header(path, change):
  """Applies `change` to the header's JSON object of a safetensors file."""
  header, data = pot_testing.read_safetensors(path)
  change(header)
  text = json.dumps(header).encode()
  path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def header_change(change):
  return lambda model: rewrite_header(model / WEIGHTS, change)


def header_text(text):
  return lambda model: (model / WEIGHTS).write_bytes(
      struct.pack("<Q", len(text)) + text + b"\0" * 64)


def weights_bytes(change):
  def apply(model):
    path = model / WEIGHTS
    path.write_bytes(change(path.read_bytes()))
  return apply


def config(**changes):
  def apply(model):
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
  return apply


def set_value(pattern):
  """Overwrites the first number of a matrix with four bytes."""
  def apply(model):
    path = model / WEIGHTS
    data = bytearray(path.read_bytes())
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    begin = 8 + length + header[ONE]["data_offsets"][0]
    data[begin:begin + 4] = pattern
    path.write_bytes(data)
  return apply


def overlap(header):
  begin, end = header[ONE]["data_offsets"]
  header[ONE]["data_offsets"] = [begin - 4, end - 4]


def swap_shape(header):
  header[ONE]["shape"].reverse()


def retype(header):
  header[ONE]["dtype"] = "I32"


def huge_shape(header):
  header[ONE]["shape"] = [2**62, 2**62]


def negative_offsets(header):
  header[ONE]["data_offsets"] = [-8, -4]


def drop(header):
  # Its bytes stay: a hole.
  del header[ONE]


def index(entries):
  def apply(model):
    header, _ = pot_testing.read_safetensors(model / WEIGHTS)
    header.pop("__metadata__", None)
    weight_map = {**dict.fromkeys(header, "part-1.safetensors"), **entries}
    (model / WEIGHTS).rename(model / "part-1.safetensors")
    (model / INDEX).write_text(json.dumps({"weight_map": weight_map}))
  return apply


def whole_index(text):
  def apply(model):
    (model / WEIGHTS).rename(model / "part-1.safetensors")
    (model / INDEX).write_text(text)
  return apply


def text_file(name, text):
  return lambda model: (model / name).write_text(text)


def remove(name):
  return lambda model: (model / name).unlink()


def link_out(model):
  (model / "vocab.json").unlink()
  os.symlink("/etc/passwd", model / "vocab.json")


def repeated_id(model):
  path = model / "vocab.json"
  vocabulary = json.loads(path.read_text())
  vocabulary[list(vocabulary)[5]] = 6
  path.write_text(json.dumps(vocabulary))


# What, damage, fragment of the message.
IMPORTS = [
    ("weights cut by one byte", weights_bytes(lambda d: d[:-1]), WEIGHTS),
    ("weights cut inside the header", weights_bytes(lambda d: d[:100]),
     WEIGHTS),
    ("weights of 5 bytes", weights_bytes(lambda d: d[:5]), WEIGHTS),
    ("no weights at all", weights_bytes(lambda d: b""), WEIGHTS),
    ("header length of 2^63",
     weights_bytes(lambda d: struct.pack("<Q", 2**63) + d[8:]), WEIGHTS),
    ("header length beyond the file",
     weights_bytes(lambda d: struct.pack("<Q", len(d)) + d[8:]), WEIGHTS),
    ("bytes after the last tensor", weights_bytes(lambda d: d + b"\0" * 64),
     WEIGHTS),
    ("header that is no JSON", header_text(b"{not json" + b" " * 55), WEIGHTS),
    ("header that is an array", header_text(b"[1, 2, 3]" + b" " * 55), WEIGHTS),
    ("header nested 100 000 deep", header_text(b"[" * 100000), WEIGHTS),
    ("header with one key twice",
     header_text(b'{"a":{"dtype":"F32","shape":[16],"data_offsets":[0,64]},'
                 b'"a":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}}'),
     WEIGHTS),
    ("tensors that overlap", header_change(overlap), WEIGHTS),
    ("a hole between tensors", header_change(drop), WEIGHTS),
    ("negative offsets", header_change(negative_offsets), WEIGHTS),
    ("a shape whose product overflows", header_change(huge_shape), WEIGHTS),
    ("a matrix the wrong way round", header_change(swap_shape), ONE),
    ("weights of type I32", header_change(retype), ONE),
    ("a weight that is NaN", set_value(b"\0\0\xc0\x7f"), ONE),
    ("a weight that is infinite", set_value(b"\0\0\x80\x7f"), ONE),
    ("an index that names itself as a shard", index({ONE: INDEX}), INDEX),
    ("an index that names a file outside",
     index({ONE: "../whole/model.safetensors"}), "../whole"),
    ("an index that names an absolute path", index({ONE: "/etc/passwd"}),
     "/etc/passwd"),
    ("an index whose shard is missing", index({ONE: "part-2.safetensors"}),
     "part-2.safetensors"),
    ("an index with a tensor that no shard has",
     index({"h.9.attn.c_attn.weight": "part-1.safetensors"}), "h.9"),
    ("an index that is no object", whole_index("[]"), INDEX),
    ("an index without a weight_map", whole_index("{}"), INDEX),
    ("no config.json", remove("config.json"), "config.json"),
    ("config.json that is no JSON", text_file("config.json", "{"),
     "config.json"),
    ("n_head of 0", config(n_head=0), "n_head"),
    ("n_embd that heads do not divide", config(n_head=5), "n_head"),
    ("a billion layers", config(n_layer=10**9), "1000000000"),
    ("negative positions", config(n_positions=-64), "-64"),
    ("n_embd as text", config(n_embd="96"), "n_embd"),
    ("vocab_size of 2^62", config(vocab_size=2**62), "vocab_size"),
    ("vocab_size unlike the weights'", config(vocab_size=299), "299"),
    ("another architecture", config(model_type="llama"), "llama"),
    ("an activation that GPT-2 has not", config(activation_function="relu"),
     "relu"),
    ("one layer more than there is", config(n_layer=4), "h.3."),
    ("no vocabulary", remove("vocab.json"), "vocab.json"),
    ("a vocabulary that is no JSON", text_file("vocab.json", "{\"a\": "),
     "vocab.json"),
    ("two tokens with one id", repeated_id, "vocab.json"),
    ("a merge of unknown tokens",
     text_file("merges.txt", "#version: 0.2\nqq zz\n"), "merges.txt"),
    ("a link that leads out of the import root", link_out,
     "leads out of the import root"),
]


def import_case(what, directory, code, fragment, reason, name="imported",
                **fields):
  message = pb.model.ImportModelRequest(name=name, **fields)
  if directory is not None:
    message.directory = directory
  return models("ImportModel", message, what, code, fragment, reason)


def import_cases():
  for number, (what, _, fragment) in enumerate(IMPORTS):
    reason = ("INVALID_FIELD" if "leads out" in what else "UNSUPPORTED_MODEL")
    yield import_case(what, f"import-{number}", INVALID, fragment, reason)
  for number in (17, 18):
    yield import_case(
        IMPORTS[number][0] + ", quantized on the way", f"import-{number}",
        INVALID, ONE, "UNSUPPORTED_MODEL",
        quantization=pb.quantization.Quantization(format="pot4"))
  for what, directory in (("the parent of the import root", ".."),
                          ("a path out of the import root", "../models/tiny/1"),
                          ("a path out and in again",
                           "whole/../../imports/../models"),
                          ("an absolute path outside", "/etc"),
                          ("a path with a NUL", "whole\0"),
                          ("a path of 5000 bytes", "d" * 5000),
                          ("an empty path", ""),
                          ("a link out of the import root", "out")):
    yield import_case(what, directory, INVALID, "directory", "INVALID_FIELD")
  yield import_case("a directory that is not there", "nothing", "NOT_FOUND",
                    "nothing", "SOURCE_NOT_FOUND")
  yield import_case("a file for a directory", "whole/config.json", "NOT_FOUND",
                    "config.json", "SOURCE_NOT_FOUND")
  yield import_case("neither directory nor hub", None, INVALID, "source",
                    "MISSING_FIELD")
  yield import_case("no model name to import to", "whole", INVALID, "name",
                    "MISSING_FIELD", name="")
  yield import_case("importing to a path", "whole", INVALID, "name",
                    "INVALID_FIELD", name="../escaped")
  for what, fields, fragment in (
      ("an unknown format", dict(format="int5"), "pot4"),
      ("an unknown granularity", dict(format="pot4", granularity="g7"), "g7"),
      ("an unknown method", dict(format="pot4", method="gptq"), "gptq"),
      ("an unknown embedding format",
       dict(format="pot4", embedding_format="nf4"), "nf4"),
      ("a granularity for floats", dict(format="f32", granularity="row"),
       "granularity")):
    yield import_case(what, "whole", INVALID, fragment, "INVALID_FIELD",
                      quantization=pb.quantization.Quantization(**fields))


# --- Versions to load: what is done to a copy of a PoT version ----------------


def refresh_manifest(version):
  """Makes the manifest right again, so that only the content is wrong."""
  path = version / "manifest.json"
  manifest = json.loads(path.read_text())
  manifest["files"] = {
      file.name: {"bytes": file.stat().st_size,
                  "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
      for file in sorted(version.iterdir()) if file != path}
  path.write_text(json.dumps(manifest))


def flip_last_byte(version):
  path = version / POT
  data = bytearray(path.read_bytes())
  data[-1] ^= 1
  path.write_bytes(data)


def cut_weights(version):
  path = version / POT
  path.write_bytes(path.read_bytes()[:-1000])


def manifest(change):
  def apply(version):
    path = version / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
  return apply


def move_entry(values):
  values["files"]["../../tiny/1/config.json"] = values["files"].pop(
      "config.json")


def wrong_digest(values):
  values["files"]["config.json"]["sha256"] = "0" * 64


def wrong_size(values):
  values["files"]["config.json"]["bytes"] += 1


def consistently(change):
  """`change`, with a manifest that agrees to it."""
  def apply(version):
    change(version)
    refresh_manifest(version)
  return apply


def nan_scales(version):
  path = version / POT
  header, data = pot_testing.read_safetensors(path)
  name = next(name for name in header if name.endswith(".scales"))
  begin, end = header[name]["data_offsets"]
  data = data[:begin] + b"\0\0\xc0\x7f" * ((end - begin) // 4) + data[end:]
  text = json.dumps(header).encode()
  path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def drop_codes(version):
  def change(header):
    name = next(name for name in header if name.endswith(".codes"))
    header["not." + name] = header.pop(name)
  rewrite_header(version / POT, change)


def change_book(version):
  def change(header):
    metadata = header["__metadata__"]
    key = next(key for key in metadata if key.startswith("book."))
    metadata[key] = "[" + ",".join(["7"] * 16) + "]"
  rewrite_header(version / POT, change)


def future_format(version):
  def change(header):
    header["__metadata__"]["format_version"] = "99"
  rewrite_header(version / POT, change)


# Name of the model, what, damage, fragment, reason.
VERSIONS = [
    ("flipped", "one flipped bit", flip_last_byte, POT, "CHECKSUM_MISMATCH"),
    ("cut", "weights cut short", cut_weights, POT, "CORRUPT_CHECKPOINT"),
    ("missing", "a file that is gone", remove("vocab.json"), "vocab.json",
     "CORRUPT_CHECKPOINT"),
    ("extra", "a file that no manifest lists",
     text_file("extra.bin", "surprise"), "extra.bin",
     "CORRUPT_CHECKPOINT"),
    ("no-manifest", "no manifest", remove("manifest.json"), "manifest.json",
     "CORRUPT_CHECKPOINT"),
    ("manifest-text", "a manifest that is no JSON",
     text_file("manifest.json", "sha256"), "manifest.json",
     "CORRUPT_CHECKPOINT"),
    ("manifest-path", "a manifest that lists a file elsewhere",
     manifest(move_entry), "manifest.json", "CORRUPT_CHECKPOINT"),
    ("manifest-digest", "a manifest with a wrong digest",
     manifest(wrong_digest), "config.json", "CHECKSUM_MISMATCH"),
    ("manifest-size", "a manifest with a wrong size", manifest(wrong_size),
     "config.json", "CORRUPT_CHECKPOINT"),
    ("nan-scales", "scales that are NaN", consistently(nan_scales),
     "scale 0 is nan",
     "CORRUPT_CHECKPOINT"),
    ("no-codes", "scales without codes", consistently(drop_codes), "",
     "CORRUPT_CHECKPOINT"),
    ("other-book", "a code book unlike the format's",
     consistently(change_book), "book", "CORRUPT_CHECKPOINT"),
    ("future", "a format version of the future", consistently(future_format),
     "99", "CORRUPT_CHECKPOINT"),
    ("deeper", "a config with more layers than weights",
     consistently(config(n_layer=5)), "h.3.", "CORRUPT_CHECKPOINT"),
    ("narrow", "a config with another width",
     consistently(config(n_embd=48)), "48", "CORRUPT_CHECKPOINT"),
    ("tokenless", "a vocabulary smaller than the config's",
     consistently(text_file("vocab.json", '{"a": 0}')), "",
     "CORRUPT_CHECKPOINT"),
]


def load_cases():
  for name, what, _, fragment, reason in VERSIONS:
    yield models("LoadModel",
                 pb.model.LoadModelRequest(model=ref(name, version=1)), what,
                 "DATA_LOSS", fragment, reason)
  yield models("DiffVersions",
               pb.model.DiffVersionsRequest(left=ref("flipped", version=1),
                                            right=ref("tiny", version=1)),
               "comparing with a version that failed", "FAILED_PRECONDITION",
               "flipped", "VERSION_FAILED")
  yield models("SetAlias",
               pb.model.SetAliasRequest(name="flipped", alias="default",
                                        version=1),
               "an alias of a version that failed", "FAILED_PRECONDITION",
               "flipped", "VERSION_FAILED")


# --- Checkpoints to upload ----------------------------------------------------


def register_cases():
  source = pot_testing.CHARACTERS / "2"
  content = {path.name: path.read_bytes() for path in sorted(source.iterdir())}

  def info(name, data, **changes):
    return pb.model.FileInfo(**{
        "path": name, "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(), **changes})

  infos = [info(name, data) for name, data in content.items()]

  def header(files=None, **fields):
    return pb.model.RegisterCheckpointRequest(header=pb.model.CheckpointHeader(
        **{"name": "uploaded", **fields},
        files=infos if files is None else files))

  def chunk(index, offset, data):
    return pb.model.RegisterCheckpointRequest(chunk=pb.model.FileChunk(
        file_index=index, offset=offset, data=data))

  def whole(content=content):
    return [chunk(index, offset, data[offset:offset + 2**20])
            for index, data in enumerate(content.values())
            for offset in range(0, len(data), 2**20)]

  def register(what, how, code, fragment, reason, messages):
    return Case(what, f"RegisterCheckpoint({how})",
                streamed("Model", "RegisterCheckpoint", messages), code,
                fragment, reason)

  first = next(iter(content.values()))
  yield register("an upload without messages", "", INVALID, "header",
                 "MISSING_FIELD", [])
  yield register("an upload that begins with a chunk", "chunk", INVALID,
                 "header", "MISSING_FIELD", [chunk(0, 0, b"x")])
  yield register("two headers", "header, header", INVALID, "chunk",
                 "MISSING_FIELD", [header(), header()])
  yield register("an upload without files", "files=[]", INVALID, "[1, 64]",
                 "INVALID_FIELD", [header([])])
  yield register("an upload of 65 files", "65 files", INVALID, "64",
                 "INVALID_FIELD",
                 [header([info(f"f{i}", b"") for i in range(65)])])
  yield register("a version that is taken", "name=tiny, version=1",
                 "ALREADY_EXISTS", "1", "VERSION_EXISTS",
                 [header(name="tiny", version=1), *whole()])
  yield register("version 0", "version=0", INVALID, "version", "INVALID_FIELD",
                 [header(version=0)])
  yield register("a model name that is a path", "name=../x", INVALID, "name",
                 "INVALID_FIELD", [header(name="../x")])
  for what, path in (("above", "../config.json"), ("below", "sub/config.json"),
                     ("anywhere", "/tmp/config.json"), ("hidden", ".config"),
                     ("without a name", ""), ("with a NUL", "config\0.json")):
    yield register(f"a file {what}", f"path={shown(path)}", INVALID, "path",
                   "INVALID_FIELD", [header([info(path, b"{}")])])
  yield register("a file twice", "path=config.json twice", INVALID,
                 "config.json", "INVALID_FIELD",
                 [header([info("config.json", b"{}")] * 2)])
  yield register("a negative size", "size_bytes=-1", INVALID, "size_bytes",
                 "INVALID_FIELD", [header([info("a", b"", size_bytes=-1)])])
  yield register("sizes that overflow", "size_bytes=2^63-1 twice",
                 "RESOURCE_EXHAUSTED", "9223372036854775807",
                 "UPLOAD_TOO_LARGE",
                 [header([info("a", b"", size_bytes=2**63 - 1),
                          info("b", b"", size_bytes=2**63 - 1)])])
  yield register("an upload larger than any model", "size_bytes=2^60",
                 "RESOURCE_EXHAUSTED", str(2**60), "UPLOAD_TOO_LARGE",
                 [header([info("a", b"", size_bytes=2**60)])])
  yield register("a digest that is none", "sha256=xyz", INVALID, "sha256",
                 "INVALID_FIELD", [header([info("a", b"", sha256="xyz")])])
  yield register("content unlike the digest", "sha256=000..", "DATA_LOSS",
                 "0" * 64, "CHECKSUM_MISMATCH",
                 [header([info(name, data, sha256="0" * 64)
                          for name, data in content.items()]), *whole()])
  yield register("a chunk of an unknown file", "file_index=99", INVALID,
                 "file_index", "INVALID_FIELD", [header(), chunk(99, 0, b"x")])
  yield register("a chunk that leaves a hole", "offset=5", INVALID, "offset",
                 "INVALID_FIELD", [header(), chunk(0, 5, first[5:9])])
  yield register("a chunk with a negative offset", "offset=-1", INVALID,
                 "offset", "INVALID_FIELD", [header(), chunk(0, -1, b"x")])
  yield register("an empty chunk", "data=b''", INVALID, "data",
                 "INVALID_FIELD", [header(), chunk(0, 0, b"")])
  yield register("a chunk of more than 1 MiB", "1 MiB + 1", INVALID, "1048576",
                 "INVALID_FIELD", [header(), chunk(0, 0, b"x" * (2**20 + 1))])
  yield register("more bytes than announced", "one byte more", INVALID,
                 f"only {len(first)} more", "INVALID_FIELD", [header(), chunk(0, 0, first + b"x")])
  yield register("an upload that stops half-way", "files missing", INVALID,
                 "the stream ended", "MISSING_FIELD", [header(), chunk(0, 0, first)])
  broken = {**content, POT: content[POT][:-8] + b"\xff" * 8}
  del broken["manifest.json"]
  yield register("an upload without a manifest", "no manifest.json", INVALID,
                 "manifest.json", "MISSING_FIELD",
                 [header([info(name, data) for name, data in broken.items()]),
                  *whole(broken)])
  other = {**content, "vocab.json": b"{}"}
  yield register("files unlike their manifest", "vocab.json={}", "DATA_LOSS",
                 "vocab.json", "CHECKSUM_MISMATCH",
                 [header([info(name, data) for name, data in other.items()]),
                  *whole(other)])


# -----------------------------------------------------------------------------


def prepare(world):
  """Writes the damaged models and versions. "tiny" version 1 must be there."""
  shutil.copytree(pot_testing.TINY, world.imports / "whole")
  (world.imports / "out").symlink_to(world.repository)
  for number, (_, damage, _) in enumerate(IMPORTS):
    model = world.imports / f"import-{number}"
    shutil.copytree(pot_testing.TINY, model)
    damage(model)
  for name, _, damage, _, _ in VERSIONS:
    version = pathlib.Path(world.repository / name / "1")
    shutil.copytree(world.repository / "tiny" / "1", version)
    damage(version)


def all_cases():
  yield from import_cases()
  yield from load_cases()
  yield from register_cases()
