#!/usr/bin/python3
"""Draws panels of the dashboards from real data: deploy/dashboards.png.

A real Prometheus scrapes a real server and a trainer under load for a minute
and a half, while a job trains, an alias moves and clients come and go; gnuplot then
draws what the panels' own queries return. It is not Grafana, which is in no
Debian package: the data and the queries are the same, the looks are not.

Usage: dashboard_picture.py --server POT_SERVER --trainer POT_TRAINER [--out F]
"""

import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import threading
import time

import grpc

import deploy_testing
import expressions
import pot_testing
import prometheus_testing
import promql_test
import qat_worker_test
from pot_testing import PATIENCE
from pot_testing import generate_request
from pot_testing import pb

PANELS = [
    ("slo", "Inference calls by code"), ("slo", "Time to first token"),
    ("slo", "Time between tokens"), ("engine", "Tokens per second"),
    ("engine", "Tasks and sequences"),
    ("engine", "Duration of a step, p50 and p99"),
    ("engine", "KV memory"), ("engine", "Cores used"),
    ("engine", "Generated tokens by version"), ("training", "Progress"),
    ("training", "Perplexity on validation text"),
    ("clients", "Started by method"),
]
SCALES = {"s": (1e3, "ms"), "bytes": (1 / (1 << 20), "MiB"),
          "percentunit": (100, "%")}
# Concurrent streams, and for how many seconds.
PHASES = [(1, 20), (4, 20), (16, 25), (4, 20), (0, 6)]
CURVES = 6


def make_repository(directory):
  """A model whose streams last, in two versions, and one to train."""
  promql_test.make_repository(directory / "models")
  pot_testing.make_long_model(directory / "long", seed=1)
  for number in ("pot4", "twohot4"):
    pot_testing.quantize(directory / "long", directory / "models", "long",
                         "--format", number)


def generate(server, seed):
  model = pot_testing.ModelRef(name="long", alias="default")
  request = generate_request(model, f"the power of {seed % 7} and the other",
                             temperature=0.8, seed=seed, max_new_tokens=300,
                             ignore_eos=True)
  call = pot_testing.stream(server, request)
  for i, _ in enumerate(call):
    if seed % 13 == 0 and i > 40:
      call.cancel()
      return


def move_alias(server, version):
  server.models.LoadModel(pb.model.LoadModelRequest(
      model=pot_testing.ModelRef(name="long", version=version)),
                          timeout=PATIENCE)
  server.models.SetAlias(pb.model.SetAliasRequest(
      name="long", alias="default", version=version), timeout=PATIENCE)


def run_load(server):
  """Streams as PHASES says, beside a job; returns when both are over."""
  load = promql_test.Load(server)
  load.load_models()
  move_alias(server, 1)
  stop = threading.Event()
  wanted = 0
  seeds = iter(range(10**9))

  def client(index):
    while not stop.is_set():
      if index >= wanted:
        time.sleep(0.05)
        continue
      try:
        seed = next(seeds)
        generate(server, seed)
        if seed % 11 == 0:
          load.mistakes()
      except grpc.RpcError:
        pass

  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    for index in range(16):
      pool.submit(client, index)
    try:
      for number, (streams, seconds) in enumerate(PHASES):
        wanted = streams
        if number == 1:
          job_id = load.submit_job(
              base=pot_testing.ModelRef(name="characters", version=1),
              text=(expressions.DEPLOY / "sample.txt").read_text() * 4,
              steps=300)
        if number in (1, 3):
          move_alias(server, 2 if number == 1 else 1)
        time.sleep(seconds)
      deadline = time.monotonic() + PATIENCE
      while not load.job_has_ended(job_id) and time.monotonic() < deadline:
        time.sleep(0.2)
    finally:
      stop.set()


def panel_of(dashboard, title):
  path = expressions.DEPLOY / "grafana" / "dashboards" / f"{dashboard}.json"
  return next(panel for panel in json.loads(path.read_text())["panels"]
              if panel["title"] == title and panel["type"] == "timeseries")


def legend_of(template, labels):
  return re.sub(r"{{(\w+)}}", lambda name: labels.get(name.group(1), ""),
                template)


def quoted(text):
  return "'" + text.replace("'", "''") + "'"


def plot_of(prometheus, name, title, begin, end):
  """gnuplot's commands for one panel."""
  panel = panel_of(name, title)
  unit = panel["fieldConfig"]["defaults"]["unit"]
  factor, suffix = SCALES.get(unit, (1, {"reqps": "1/s"}.get(unit, "")))
  curves = []
  for target in panel["targets"]:
    expression = target["expr"]
    for variable, value in expressions.VARIABLES.items():
      expression = expression.replace(
          variable, "4s" if variable == "$__rate_interval" else value)
    for series in prometheus.query_range(expression, begin, end, 0.5):
      points = [(round(at - begin, 1), float(f"{float(value) * factor:.4g}"))
                for at, value in series["values"] if value != "NaN"]
      if points:
        legend = legend_of(target["legendFormat"], series["metric"])
        curves.append((max(value for _, value in points), legend,
                       [f"{at} {value}" for at, value in points]))
  # The highest, in the order of the panel.
  highest = sorted(curves, reverse=True)[:CURVES]
  curves = [curve for curve in curves if curve in highest]
  blocks = ["\n".join([f"$d{i} << EOD", *points, "EOD"])
            for i, (_, _, points) in enumerate(curves)]
  plots = [f"$d{i} using 1:2 with lines lw 1.6 title {quoted(legend)}"
           for i, (_, legend, _) in enumerate(curves)]
  label = f"{name}: {title}" + (f" [{suffix}]" if suffix else "")
  return "\n".join([*blocks, f"set title {quoted(label)}",
                    "plot " + ", ".join(plots or ["NaN notitle"])])


def events(prometheus, begin, end):
  """Times at which an alias moved: the dashboards' annotation."""
  moved = []
  for series in prometheus.query_range("pot_model_swaps_total", begin, end,
                                       0.5):
    values = series["values"]
    moved += [now[0] - begin for before, now in zip(values, values[1:])
              if now[1] != before[1]]
  return moved


def script_of(prometheus, begin, end, out):
  lines = [
      "set encoding utf8",
      "set terminal pngcairo size 1320,1240 font 'DejaVu Sans,9' "
      "background '#ffffff'", f"set output {quoted(str(out))}",
      "set multiplot layout 4,3", "set grid lc '#e0e0e0'",
      "set key top left noenhanced samplen 1.5 font ',8'",
      "set title noenhanced font ':Bold,10'", "set yrange [0:*]",
      f"set xrange [0:{end - begin}]", "set offsets 0, 0, graph 0.25, 0",
      "set format x '%.0f s'"]
  for number, at in enumerate(events(prometheus, begin, end)):
    lines.append(f"set arrow {number + 1} from {at}, graph 0 to {at}, graph 1 "
                 "nohead lc '#8040c0' dt 2")
  lines += [plot_of(prometheus, name, title, begin, end)
            for name, title in PANELS]
  return "\n".join(lines) + "\nunset multiplot\n"


def main():
  arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
  pot_testing.programs.server = arguments["--server"]
  pot_testing.programs.trainer = arguments["--trainer"]
  out = pathlib.Path(arguments.get(
      "--out", deploy_testing.DEPLOY / "dashboards.png")).resolve()
  directory = pot_testing.temporary_directory()
  make_repository(directory)
  metrics, workers, trainer = (prometheus_testing.free_port()
                               for _ in range(3))
  with pot_testing.Server(
      directory / "models", "--metrics-listen", f"127.0.0.1:{metrics}",
      "--worker-listen", f"127.0.0.1:{workers}", "--kv-memory", "48MiB",
      "--prefix-cache", "8MiB") as server:
    worker = qat_worker_test.Worker(workers, directory / "work",
                                    "--metrics-listen", f"127.0.0.1:{trainer}")
    try:
      with prometheus_testing.Prometheus(
          {"pot-server": f"127.0.0.1:{metrics}",
           "pot-trainer": f"127.0.0.1:{trainer}"},
          interval="500ms") as prometheus:
        prometheus.wait_for_targets()
        begin = time.time()
        run_load(server)
        time.sleep(3)
        subprocess.run(
            ["gnuplot"], text=True, check=True,
            input=script_of(prometheus, begin, time.time(), out))
    finally:
      worker.end(9)


if __name__ == "__main__":
  main()
