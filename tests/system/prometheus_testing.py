"""A real Prometheus for tests: Debian's package, on a free loopback port."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import pot_testing


def require(*names):
  """Skips the test loudly when a program is not installed."""
  for name in names:
    if shutil.which(name) is None:
      message = f"no {name}: deploy/install-deps test installs it"
      print(f"SKIPPED: {message}", file=sys.stderr)
      raise unittest.SkipTest(message)


def free_port():
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def promtool(*arguments, stdin=None):
  """What promtool says; an AssertionError when it complains."""
  result = subprocess.run(["promtool", *map(str, arguments)], input=stdin,
                          capture_output=True, text=True,
                          timeout=pot_testing.PATIENCE, check=False)
  if result.returncode != 0:
    raise AssertionError(f"promtool {' '.join(map(str, arguments))}:\n"
                         f"{result.stdout}{result.stderr}")
  return result.stdout + result.stderr


class Prometheus:
  """Scrapes `targets`, name of a job to HOST:PORT, from `with` to its end."""

  def __init__(self, targets, *, rules=(), interval="250ms"):
    self.targets = targets
    self.directory = pot_testing.temporary_directory()
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval,
                   "evaluation_interval": interval},
        "rule_files": [str(pathlib.Path(path).resolve()) for path in rules],
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": [target]}]}
            for name, target in targets.items()]}
    # YAML is a superset of JSON.
    self.config = self.directory / "prometheus.yaml"
    self.config.write_text(json.dumps(config))
    self.log_path = self.directory / "log"
    self.process = None
    self.address = None

  def start(self):
    self.address = f"127.0.0.1:{free_port()}"
    with open(self.log_path, "ab") as log:
      self.process = subprocess.Popen(
          ["setpriv", "--pdeathsig", "KILL", "--", "prometheus",
           f"--config.file={self.config}",
           f"--storage.tsdb.path={self.directory / 'data'}",
           f"--web.listen-address={self.address}"],
          stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    self.wait_until(self._is_ready, "Prometheus")
    return self

  def _is_ready(self):
    try:
      with urllib.request.urlopen(f"http://{self.address}/-/ready",
                                  timeout=pot_testing.PATIENCE) as answer:
        return answer.status == 200
    except (urllib.error.URLError, ConnectionError):
      return False

  def wait_until(self, condition, what):
    deadline = time.monotonic() + pot_testing.PATIENCE
    while not condition():
      if self.process.poll() is not None:
        raise AssertionError(f"prometheus ended before {what}:\n{self.log()}")
      if time.monotonic() > deadline:
        raise AssertionError(f"no {what}:\n{self.log()}")
      time.sleep(0.05)

  def wait_for_targets(self):
    self.wait_until(
        lambda: sum(float(series["value"][1])
                    for series in self.query("up")) == len(self.targets),
        f"{self.targets} up")

  def log(self):
    return self.log_path.read_text(errors="replace")[-4000:]

  def get(self, path, **parameters):
    """An answer's `data`, by the HTTP API; AssertionError with its error."""
    url = (f"http://{self.address}/api/v1/{path}?"
           + urllib.parse.urlencode(parameters, doseq=True))
    try:
      with urllib.request.urlopen(url,
                                  timeout=pot_testing.PATIENCE) as answer:
        return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
      raise AssertionError(
          f"{path} {parameters}: {error.read().decode(errors='replace')}"
      ) from None

  def query(self, expression):
    """Series now: a list of {metric, value: [time, text]}."""
    data = self.get("query", query=expression)
    if data["resultType"] == "scalar":
      return [{"metric": {}, "value": data["result"]}]
    return data["result"]

  def value(self, expression):
    """Of the first series now; None without one."""
    series = self.query(expression)
    return float(series[0]["value"][1]) if series else None

  def query_range(self, expression, start, end, step=0.5):
    """Series over time: a list of {metric, values: [[time, text]..]}."""
    return self.get("query_range", query=expression, start=start, end=end,
                    step=step)["result"]

  def stop(self):
    if self.process is not None and self.process.poll() is None:
      os.kill(self.process.pid, signal.SIGTERM)
      try:
        self.process.wait(timeout=pot_testing.PATIENCE)
      except subprocess.TimeoutExpired:
        self.process.kill()
        self.process.wait()

  def __enter__(self):
    try:
      return self.start()
    except BaseException:
      self.stop()
      raise

  def __exit__(self, *unused):
    self.stop()
