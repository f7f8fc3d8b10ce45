"""Bad requests to a healthy server; see bad_input_test.py.

The world has the models "tiny" (byte-pair vocabulary of 300, context 64; with
version 1 loaded under the alias "stable", 2 on disk, 3 loaded) and
"characters" (65 characters, context 64, version 3 loaded).
"""

from bad_input import BAD_TEXT
from bad_input import Case
from bad_input import INVALID
from bad_input import models
from bad_input import pb
from bad_input import raw_call
from bad_input import ref
from bad_input import shown
from bad_input import streamed
from bad_input import unary
from bad_input import with_bad_text
from pot_testing import generate_request

NAN = float("nan")
INF = float("inf")
INFERENCE = "/pot.v1.InferenceService/"
MODELS = "/pot.v1.ModelService/"


def generate(what, reason, fragment, prompt="the", model="tiny", code=INVALID,
             **fields):
  request = generate_request(model, prompt, **fields)
  given = dict(fields)
  if prompt != "the":
    given["prompt"] = prompt
  if model != "tiny":
    given["model"] = str(model).replace("\n", " ").strip()
  how = ", ".join(f"{name}={shown(value)}" for name, value in given.items())
  return Case(what, f"Generate({how})", unary("Inference", "Generate", request),
              code, fragment, reason)


def sampling_cases():
  bad = {
      "temperature": [(-0.5, "[0, 100]"), (101, "[0, 100]"),
                      (NAN, "[0, 100]"), (INF, "[0, 100]")],
      "top_p": [(0, "(0, 1]"), (1.5, "(0, 1]"), (NAN, "(0, 1]")],
      "min_p": [(-0.1, "[0, 1]"), (1.01, "[0, 1]"), (NAN, "[0, 1]")],
      "typical_p": [(0, "(0, 1]"), (-INF, "(0, 1]")],
      "repetition_penalty": [(0, "(0, 10]"), (11, "(0, 10]"), (NAN, "(0, 10]")],
      "presence_penalty": [(-11, "[-10, 10]"), (INF, "[-10, 10]")],
      "frequency_penalty": [(10.5, "[-10, 10]"), (NAN, "[-10, 10]")],
      "top_k": [(-1, "-1"), (-2**31, "-2147483648")],
      "n": [(0, "[1, 16]"), (17, "[1, 16]"), (2**31 - 1, "2147483647")],
  }
  for name, values in bad.items():
    for value, fragment in values:
      yield generate(f"{name} of {value}", "INVALID_FIELD", fragment,
                     **{name: value})
  yield generate("best_of below n", "INVALID_FIELD", "[3, 16]", n=3, best_of=2)
  yield generate("best_of of 17", "INVALID_FIELD", "[1, 16]", best_of=17)
  yield generate("logit bias that is NaN", "INVALID_FIELD", "[-100, 100]",
                 logit_bias={3: NAN})
  yield generate("logit bias out of range", "INVALID_FIELD", "[-100, 100]",
                 logit_bias={3: 101})
  yield generate("logit bias of an unknown token", "UNKNOWN_TOKEN", "300",
                 logit_bias={300: 1})
  yield generate("logit bias with 1025 entries", "INVALID_FIELD", "1024",
                 logit_bias={id: 1 for id in range(1025)})
  yield generate("unknown allowed token", "UNKNOWN_TOKEN", "-1",
                 allowed_token_ids=[5, -1])
  yield generate("unknown banned token", "UNKNOWN_TOKEN", "300",
                 banned_token_ids=[300])
  yield generate("more allowed tokens than there are", "INVALID_FIELD", "300",
                 allowed_token_ids=[1] * 301)
  yield generate("every token banned", "INVALID_FIELD", "leaves none",
                 banned_token_ids=range(300))
  yield generate("the only allowed token banned", "INVALID_FIELD",
                 "leaves none", allowed_token_ids=[7], banned_token_ids=[7])
  request = pb.inference.GenerateStreamRequest(
      request=generate_request("tiny", "the", n=1, best_of=2))
  yield Case("best_of above n in a stream", "GenerateStream(n=1, best_of=2)",
             unary("Inference", "GenerateStream", request), INVALID,
             "request.sampling.best_of", "INVALID_FIELD")


def stopping_cases():
  yield generate("no new tokens", "INVALID_FIELD", "[1, 64)", max_new_tokens=0)
  yield generate("negative new tokens", "INVALID_FIELD", "-5",
                 max_new_tokens=-5)
  yield generate("2^31 - 1 new tokens", "CONTEXT_OVERFLOW", "2147483647",
                 max_new_tokens=2**31 - 1)
  yield generate("prompt and new tokens over the context", "CONTEXT_OVERFLOW",
                 "64", max_new_tokens=63)
  yield generate("min_new_tokens above max_new_tokens", "INVALID_FIELD",
                 "[0, 4]", max_new_tokens=4, min_new_tokens=5)
  yield generate("negative min_new_tokens", "INVALID_FIELD", "-1",
                 min_new_tokens=-1)
  yield generate("17 stop strings", "INVALID_FIELD", "16",
                 stop_strings=["x"] * 17)
  yield generate("an empty stop string", "INVALID_FIELD", "stop_strings[1]",
                 stop_strings=["x", ""])
  yield generate("a stop string of 257 bytes", "INVALID_FIELD", "257",
                 stop_strings=["x" * 257])
  yield generate("65 stop tokens", "INVALID_FIELD", "64",
                 stop_token_ids=[1] * 65)
  yield generate("an unknown stop token", "UNKNOWN_TOKEN", "100000",
                 stop_token_ids=[100000])
  yield generate("nothing but stop tokens before min_new_tokens",
                 "INVALID_FIELD", "min_new_tokens", allowed_token_ids=[4],
                 stop_token_ids=[4], min_new_tokens=1, max_new_tokens=4)


def prompt_cases():
  yield generate("an empty prompt", "EMPTY_PROMPT", "at least one", prompt="")
  yield generate("a prompt of no tokens", "EMPTY_PROMPT", "at least one",
                 prompt=[])
  yield generate("unknown token id in the prompt", "UNKNOWN_TOKEN", "[0, 300)",
                 prompt=[1, 2, 300])
  yield generate("negative token id in the prompt", "UNKNOWN_TOKEN",
                 "token_ids.ids[0]", prompt=[-7])
  yield generate("a prompt longer than the context", "CONTEXT_OVERFLOW", "64",
                 prompt="z" * 65, max_new_tokens=1)
  yield generate("a prompt that fills the context, truncated to what?",
                 "CONTEXT_OVERFLOW", "max_new_tokens", prompt="z" * 70,
                 overflow=pb.common.CONTEXT_OVERFLOW_TRUNCATE_LEFT)
  yield generate("a prompt over the byte limit", "PROMPT_TOO_LONG", "1048576",
                 prompt="x" * (2**20 + 1))
  yield generate("a prompt over the token limit", "PROMPT_TOO_LONG", "262144",
                 prompt=[1] * (2**18 + 1))
  yield generate("a character that the vocabulary lacks", "UNKNOWN_TOKEN",
                 "cannot be tokenized", prompt="caf\u00e9", model="characters")
  yield Case("no prompt", "Generate(model=tiny)",
             unary("Inference", "Generate",
                   pb.inference.GenerateRequest(model=ref())),
             INVALID, "prompt", "MISSING_FIELD")
  yield generate("21 logprobs", "INVALID_FIELD", "[0, 20]", logprobs=21)
  yield generate("negative prompt logprobs", "INVALID_FIELD", "[0, 20]",
                 prompt_logprobs=-1)
  yield generate("a request id of 129 characters", "INVALID_FIELD", "128",
                 request_id="r" * 129)
  yield generate("a request id with a line break", "INVALID_FIELD",
                 "printable ASCII", request_id="a\nINFO forged")
  yield generate("an unknown overflow policy", "INVALID_FIELD", "99",
                 overflow=99)


def model_ref_cases():
  for what, name in (("a parent directory", "../characters"),
                     ("an absolute path", "/etc"),
                     ("a path", "tiny/1"),
                     ("a hidden directory", ".staging"),
                     ("300 characters", "m" * 300),
                     ("a NUL", "tiny\0"),
                     ("letters beyond ASCII", "t\u00efny"),
                     ("a line break", "tiny\n"),
                     ("a shell's variable", "$HOME")):
    yield generate(f"model name: {what}", "INVALID_FIELD", "[A-Za-z0-9._-]",
                   model=name)
  yield generate("no model name", "MISSING_FIELD", "model.name", model="")
  yield generate("an unknown model", "MODEL_NOT_FOUND", "nobody",
                 model="nobody", code="NOT_FOUND")
  yield generate("an unknown model with the longest name", "MODEL_NOT_FOUND",
                 "m", model="m" * 64, code="NOT_FOUND")
  yield generate("an unknown version", "VERSION_NOT_FOUND", "77",
                 model=ref(version=77), code="NOT_FOUND")
  yield generate("version 0", "INVALID_FIELD", "[1, ", model=ref(version=0))
  yield generate("a negative version", "INVALID_FIELD", "-1",
                 model=ref(version=-1))
  yield generate("an unknown alias", "ALIAS_NOT_FOUND", "prod",
                 model=ref(alias="prod"), code="NOT_FOUND")
  yield generate("an alias of digits", "INVALID_FIELD", "digits",
                 model=ref(alias="123"))
  yield generate("an alias that is a path", "INVALID_FIELD", "alias",
                 model=ref(alias="../../x"))
  yield generate("an unknown digest", "VERSION_NOT_FOUND", "0" * 64,
                 model=ref(digest="0" * 64), code="NOT_FOUND")
  yield generate("a digest in upper case", "INVALID_FIELD", "hexadecimal",
                 model=ref(digest="A" * 64))
  yield generate("half a digest", "INVALID_FIELD", "64",
                 model=ref(digest="a" * 32))
  yield generate("a version that is not loaded", "VERSION_UNLOADED",
                 "not loaded", model=ref(version=2),
                 code="FAILED_PRECONDITION")


def utf8_cases():

  def case(what, method, message, field, service=INFERENCE, stream=False):
    data = with_bad_text(message)
    return Case(what, f"{method}({field}=\"\\xc3\\x28\")",
                lambda world: raw_call(world, service + method,
                                       [data] if stream else data),
                INVALID, field, "INVALID_UTF8")

  yield case("prompt that is not UTF-8", "Generate",
             generate_request("tiny", "ok " + BAD_TEXT), "text")
  yield case("stop string that is not UTF-8", "Generate",
             generate_request("tiny", "x", stop_strings=["a", BAD_TEXT]),
             "stopping.stop_strings")
  yield case("model name that is not UTF-8", "Generate",
             generate_request(BAD_TEXT, "x"), "model.name")
  yield case("request id that is not UTF-8", "GenerateStream",
             pb.inference.GenerateStreamRequest(
                 request=generate_request("tiny", "x", request_id=BAD_TEXT)),
             "request.request_id")
  yield case("text to tokenize that is not UTF-8", "Tokenize",
             pb.inference.TokenizeRequest(model=ref(), text=BAD_TEXT), "text")
  yield case("continuation that is not UTF-8", "Score",
             pb.inference.ScoreRequest(
                 model=ref(), text="x",
                 continuations=[pb.inference.ScoreContinuation(text="ok"),
                                pb.inference.ScoreContinuation(text=BAD_TEXT)]),
             "continuations")
  yield case("options that are not UTF-8", "Perplexity",
             pb.inference.PerplexityRequest(
                 options=pb.inference.PerplexityOptions(
                     model=ref(), request_id=BAD_TEXT)), "options.request_id",
             stream=True)
  yield case("alias that is not UTF-8", "SetAlias",
             pb.model.SetAliasRequest(name="tiny", alias=BAD_TEXT, version=1),
             "alias", MODELS)
  yield case("import directory that is not UTF-8", "ImportModel",
             pb.model.ImportModelRequest(name="x", directory=BAD_TEXT),
             "directory", MODELS)
  yield Case("bytes that are no message", "Generate(0xff 0xff 0xff)",
             lambda world: raw_call(world, INFERENCE + "Generate", b"\xff" * 3),
             INVALID, "", "MALFORMED_MESSAGE")
  yield Case("a message that is cut off", "Score(half of a message)",
             lambda world: raw_call(
                 world, INFERENCE + "Score",
                 pb.inference.ScoreRequest(model=ref(), text="abcdef")
                 .SerializeToString()[:-3]), INVALID, "", "MALFORMED_MESSAGE")
  yield Case("bytes that are no message of ModelService",
             "SetAlias(0xff 0xff 0xff)",
             lambda world: raw_call(world, MODELS + "SetAlias", b"\xff" * 3),
             INVALID, "", "MALFORMED_MESSAGE")
  yield Case("a message over the size limit", "Tokenize(5 MiB)",
             unary("Inference", "Tokenize",
                   pb.inference.TokenizeRequest(model=ref(),
                                                text="x" * (5 << 20))),
             "RESOURCE_EXHAUSTED", "4194304")
  yield Case("a method that is not there", "InferenceService/Train",
             lambda world: raw_call(world, INFERENCE + "Train", b""),
             "UNIMPLEMENTED", "")


def token_cases():
  yield Case("unknown token to detokenize", "Detokenize([1, 300])",
             unary("Inference", "Detokenize",
                   pb.inference.DetokenizeRequest(model=ref(),
                                                  token_ids=[1, 300])),
             INVALID, "token_ids[1]", "UNKNOWN_TOKEN")
  yield Case("too many tokens to detokenize", "Detokenize(2^18 + 1 tokens)",
             unary("Inference", "Detokenize",
                   pb.inference.DetokenizeRequest(
                       model=ref(), token_ids=[1] * (2**18 + 1))),
             INVALID, "262144", "PROMPT_TOO_LONG")
  yield Case("text to tokenize over the limit", "Tokenize(1 MiB + 1)",
             unary("Inference", "Tokenize",
                   pb.inference.TokenizeRequest(model=ref(),
                                                text="x" * (2**20 + 1))),
             INVALID, "1048576", "PROMPT_TOO_LONG")


def score_cases():

  def score(what, reason, fragment, text="the", continuations=(), **fields):
    request = pb.inference.ScoreRequest(
        model=ref(), text=text, continuations=[
            pb.inference.ScoreContinuation(text=c) for c in continuations],
        **fields)
    how = f"Score(text={shown(text)}"
    if continuations:
      how += f", continuations={shown(list(continuations))}"
    how += "".join(f", {name}={value}" for name, value in fields.items())
    return Case(what, how + ")", unary("Inference", "Score", request), INVALID,
                fragment, reason)

  yield score("a prompt too short to score", "EMPTY_PROMPT", "two", text="z")
  yield score("an empty prompt to score", "EMPTY_PROMPT", "one", text="")
  yield score("an empty continuation", "EMPTY_PROMPT", "continuations[1]",
              continuations=["a", ""])
  yield score("257 continuations", "INVALID_FIELD", "256",
              continuations=["a"] * 257)
  yield score("21 alternatives", "INVALID_FIELD", "[0, 20]", alternatives=21)
  yield score("a continuation longer than the context", "CONTEXT_OVERFLOW",
              "65", continuations=["z" * 65])
  yield Case("a continuation without content", "Score(continuations=[{}])",
             unary("Inference", "Score", pb.inference.ScoreRequest(
                 model=ref(), text="the",
                 continuations=[pb.inference.ScoreContinuation()])),
             INVALID, "continuations[0]", "MISSING_FIELD")


def perplexity_cases():

  def perplexity(what, how, reason, fragment, parts, code=INVALID, **options):
    messages = []
    for part in parts:
      if part == "options":
        messages.append(pb.inference.PerplexityRequest(
            options=pb.inference.PerplexityOptions(
                **{"model": ref(), **options})))
      elif part is None:
        messages.append(pb.inference.PerplexityRequest())
      else:
        messages.append(pb.inference.PerplexityRequest(text=part))
    return Case(what, f"Perplexity({how})",
                streamed("Inference", "Perplexity", messages), code, fragment,
                reason)

  text = b"the other power "
  yield perplexity("a stream without messages", "", "MISSING_FIELD", "options",
                   [])
  yield perplexity("text before options", "text", "MISSING_FIELD", "options",
                   [text])
  yield perplexity("options twice", "options, text, options", "MISSING_FIELD",
                   "options", ["options", text, "options"])
  yield perplexity("an empty part", "options, {}", "MISSING_FIELD", "text",
                   ["options", None])
  yield perplexity("options without text", "options", "EMPTY_PROMPT", "two",
                   ["options"])
  yield perplexity("a text of one token", 'options, "z"', "EMPTY_PROMPT",
                   "two tokens", ["options", b"z"])
  yield perplexity("text that is not UTF-8", "options, 0xff after 7 bytes",
                   "INVALID_UTF8", "7", ["options", b"seven b\xff"])
  yield perplexity("text that ends inside a character",
                   "options, \"abc\", 0xe2 0x82", "INVALID_UTF8", "3",
                   ["options", b"abc", b"\xe2\x82"])
  yield perplexity("a word without end", "options, 1.5 MiB of x",
                   "WORD_TOO_LONG", "1048576",
                   ["options"] + [b"x" * (1 << 18)] * 6)
  for name, value, fragment in (("window", 0, "[1, 64]"),
                                ("window", 2**31 - 1, "[1, 64]"),
                                ("window", -1, "[1, 64]"),
                                ("stride", 0, "[1, 64]"),
                                ("stride", 65, "[1, 64]")):
    yield perplexity(f"{name} of {value}", f"{name}={value}", "INVALID_FIELD",
                     fragment, ["options", text], **{name: value})
  yield perplexity("a reference with another vocabulary",
                   "reference=characters", "TOKENIZER_MISMATCH", "65",
                   ["options", text], reference=ref("characters"))
  yield perplexity("an unknown reference", "reference=nobody",
                   "MODEL_NOT_FOUND", "nobody", ["options", text],
                   code="NOT_FOUND", reference=ref("nobody"))
  yield perplexity("a reference without a name", "reference={}",
                   "MISSING_FIELD", "options.reference.name",
                   ["options", text], reference=ref(""))


def alias_cases():
  Set = pb.model.SetAliasRequest

  def alias(what, code, reason, fragment, **fields):
    return models("SetAlias", Set(**{"name": "tiny", "alias": "new", **fields}),
                  what, code, fragment, reason)

  yield alias("an alias of digits alone", INVALID, "INVALID_FIELD", "digits",
              alias="42", version=1)
  yield alias("an alias without a name", INVALID, "MISSING_FIELD", "alias",
              alias="", version=1)
  yield alias("an alias that is a path", INVALID, "INVALID_FIELD", "alias",
              alias="../x", version=1)
  yield alias("an alias of 300 characters", INVALID, "INVALID_FIELD", "alias",
              alias="a" * 300, version=1)
  yield alias("an alias without a target", INVALID, "MISSING_FIELD", "target")
  yield alias("remove that is false", INVALID, "INVALID_FIELD", "remove",
              remove=False)
  yield alias("version 0 for an alias", INVALID, "INVALID_FIELD", "version",
              version=0)
  yield alias("a negative version for an alias", INVALID, "INVALID_FIELD",
              "version", version=-3)
  yield alias("a negative expected version", INVALID, "INVALID_FIELD",
              "expected_version", version=1, expected_version=-1)
  yield alias("a comment of 513 bytes", INVALID, "INVALID_FIELD", "512",
              version=1, comment="c" * 513)
  yield alias("an alias of an unknown model", "NOT_FOUND", "MODEL_NOT_FOUND",
              "nobody", name="nobody", version=1)
  yield alias("an alias of an unknown version", "NOT_FOUND",
              "VERSION_NOT_FOUND", "99", version=99)
  yield alias("an alias of a version that is not loaded", "FAILED_PRECONDITION",
              "VERSION_UNLOADED", "2", version=2)
  yield alias("removing an alias that is not there", "NOT_FOUND",
              "ALIAS_NOT_FOUND", "new", remove=True)
  yield alias("an alias that is elsewhere", "ABORTED", "ALIAS_MISMATCH",
              "names version 1, not 3", alias="stable", version=3,
              expected_version=3)
  yield alias("a new alias that is expected to exist", "ABORTED",
              "ALIAS_MISMATCH", "0", version=3, expected_version=2)
  yield alias("an alias of a model name that is a path", INVALID,
              "INVALID_FIELD", "name", name="../tiny", version=1)
  rollback = pb.model.RollbackAliasRequest
  yield models("RollbackAlias", rollback(name="tiny", alias="stable"),
               "rolling back an alias that never moved", "FAILED_PRECONDITION",
               "stable", "NO_PREVIOUS_VERSION")
  yield models("RollbackAlias", rollback(name="tiny", alias="nothing"),
               "rolling back an unknown alias", "NOT_FOUND", "nothing",
               "ALIAS_NOT_FOUND")
  yield models("ListAliasHistory",
               pb.model.ListAliasHistoryRequest(name="tiny", limit=1001),
               "a history of 1001", INVALID, "[0, 1000]", "INVALID_FIELD")
  yield models("ListAliasHistory",
               pb.model.ListAliasHistoryRequest(name="nobody"),
               "the history of an unknown model", "NOT_FOUND", "nobody",
               "MODEL_NOT_FOUND")


def version_cases():
  delete = pb.model.DeleteVersionRequest
  yield models("DeleteVersion", delete(name="tiny", version=1),
               "deleting what an alias names", "FAILED_PRECONDITION", "stable",
               "VERSION_ALIASED")
  yield models("DeleteVersion", delete(name="tiny", version=3),
               "deleting what is loaded", "FAILED_PRECONDITION", "AVAILABLE",
               "VERSION_LOADED")
  yield models("DeleteVersion", delete(name="tiny", version=50),
               "deleting an unknown version", "NOT_FOUND", "50",
               "VERSION_NOT_FOUND")
  yield models("DeleteVersion", delete(name="tiny"),
               "deleting without a version", INVALID, "version",
               "INVALID_FIELD")
  yield models("DeleteVersion", delete(name="../tiny", version=1),
               "deleting through a path", INVALID, "name", "INVALID_FIELD")
  yield models("DeleteVersion", delete(version=1),
               "deleting from no model", INVALID, "name", "MISSING_FIELD")
  load = pb.model.LoadModelRequest
  yield models("LoadModel", load(model=ref("nobody")),
               "loading an unknown model", "NOT_FOUND", "nobody",
               "MODEL_NOT_FOUND")
  yield models("LoadModel", load(model=ref(version=50)),
               "loading an unknown version", "NOT_FOUND", "50",
               "VERSION_NOT_FOUND")
  yield models("LoadModel", load(model=ref("a/../../b")),
               "loading through a path", INVALID, "model.name",
               "INVALID_FIELD")
  yield models("LoadModel", load(), "loading nothing", INVALID, "model.name",
               "MISSING_FIELD")
  unload = pb.model.UnloadModelRequest
  yield models("UnloadModel", unload(model=ref()),
               "unloading without a selector", INVALID, "selector",
               "MISSING_FIELD")
  yield models("UnloadModel", unload(model=ref(version=50)),
               "unloading an unknown version", "NOT_FOUND", "50",
               "VERSION_NOT_FOUND")
  yield models("GetModel", pb.model.GetModelRequest(model=ref("nobody")),
               "asking for an unknown model", "NOT_FOUND", "nobody",
               "MODEL_NOT_FOUND")
  yield models("ListModels", pb.model.ListModelsRequest(name="../x"),
               "listing a path", INVALID, "name", "INVALID_FIELD")
  diff = pb.model.DiffVersionsRequest
  yield models("DiffVersions", diff(left=ref(), right=ref("characters")),
               "comparing two architectures", INVALID, "", "SHAPE_MISMATCH")
  yield models("DiffVersions", diff(left=ref(), right=ref(version=60)),
               "comparing with nothing", "NOT_FOUND", "60",
               "VERSION_NOT_FOUND")


def all_cases():
  for group in (sampling_cases, stopping_cases, prompt_cases, model_ref_cases,
                utf8_cases, token_cases, score_cases, perplexity_cases,
                alias_cases, version_cases):
    yield from group()
