"""What the server holds: memory, file descriptors, KV blocks."""

import os
import re
import statistics
import time
import urllib.request

import pot_testing

INTERVAL = 2  # seconds


class Watch:

  def __init__(self, server, metrics_port):
    self.server = server
    self.metrics_port = metrics_port
    self.idle_descriptors = 0
    self.begin = time.monotonic()
    self.samples = []  # (seconds, bytes)

  def memory(self):
    text = open(f"/proc/{self.server.process.pid}/status").read()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) * 1024

  def descriptors(self):
    return len(os.listdir(f"/proc/{self.server.process.pid}/fd"))

  def kv_bytes(self):
    with urllib.request.urlopen(
        f"http://127.0.0.1:{self.metrics_port}/metrics",
        timeout=pot_testing.PATIENCE) as answer:
      text = answer.read().decode()
    return float(re.search(r"^pot_kv_cache_bytes(?:{[^}]*})? (\S+)$", text,
                           re.MULTILINE)[1])

  def sample(self, stop):
    self.begin = time.monotonic()
    while not stop.wait(INTERVAL) and self.server.is_running():
      self.samples.append((time.monotonic() - self.begin, self.memory()))

  def memory_after(self, warmup):
    """Medians of the first third after the warm-up, and of the last."""
    settled = [size for seconds, size in self.samples if seconds >= warmup]
    third = max(1, len(settled) // 3)
    return (statistics.median(settled[:third]),
            statistics.median(settled[-third:]))

  def memory_by_minute(self):
    minutes = {}
    for seconds, size in self.samples:
      minutes.setdefault(int(seconds // 60), []).append(size)
    return [round(statistics.median(sizes) / 1e6, 2)
            for _, sizes in sorted(minutes.items())]

  def at_rest(self, soak):
    """Once no call runs and no model is loaded, when nothing may be held."""
    soak.unload_all()
    result = {}
    deadline = time.monotonic() + 30
    while True:
      result = {"kv_bytes": self.kv_bytes(), "descriptors": self.descriptors()}
      done = (result["kv_bytes"] == 0
              and result["descriptors"] <= self.idle_descriptors)
      if done or time.monotonic() > deadline:
        return result
      time.sleep(0.2)
