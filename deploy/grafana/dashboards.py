#!/usr/bin/python3
"""Writes the dashboards beside it, dashboards/*.json, which Grafana loads.

  deploy/grafana/dashboards.py

The series are documented in server/observability/README.md; Prometheus calls
the label "job" of pot_job_* exported_job, as targets have one of that name. The
tests run every expression here against a real Prometheus and compare the files.
"""

import json
import pathlib

OUT = pathlib.Path(__file__).resolve().parent / "dashboards"
PROMETHEUS = {"type": "prometheus", "uid": "prometheus"}
COLUMNS = 24

# What the server is at fault for; the client's mistakes, refusals under load
# and deadlines are shown, but spend no error budget.
FAULTS = 'grpc_code=~"INTERNAL|UNKNOWN|DATA_LOSS|UNAVAILABLE"'
# Of ErrorInfo: the server was too full.
REFUSALS = '"QUEUE_FULL|QUEUED_TOKENS|KV_MEMORY|DEADLINE_INFEASIBLE"'
INFERENCE = 'grpc_service="pot.v1.InferenceService"'


def rate(series, matchers="", by=""):
  """Per second, added up over replicas and versions."""
  grouping = f" by ({by}) " if by else ""
  selector = f"{series}{{{matchers}}}" if matchers else series
  return f"sum{grouping}(rate({selector}[$__rate_interval]))"


def quantile(q, series, matchers="", by=""):
  by = f"{by}, le" if by else "le"
  return f"histogram_quantile({q}, {rate(series + '_bucket', matchers, by)})"


def mean(series, matchers="", by=""):
  return (f"{rate(series + '_sum', matchers, by)} / "
          f"{rate(series + '_count', matchers, by)}")


def quantiles(series, matchers="", by="", prefix=""):
  return [(quantile(q, series, matchers, by), f"{prefix}p{round(q * 100)}")
          for q in (0.5, 0.95, 0.99)]


class Panel:
  """One picture; `queries` are pairs of an expression and its legend."""

  def __init__(self, title, queries, *, kind="timeseries", unit="short",
               width=8, height=8, description="", limit=None, stacked=False,
               minimum=0, maximum=None, colors=()):
    self.title = title
    self.queries = queries
    self.kind = kind
    self.unit = unit
    self.width = width
    self.height = height
    self.description = description
    self.limit = limit
    self.stacked = stacked
    self.minimum = minimum
    self.maximum = maximum
    self.colors = colors

  def thresholds(self):
    steps = [{"color": "green", "value": None}]
    steps += [{"color": color, "value": value} for value, color in self.colors]
    if self.limit is not None:
      steps.append({"color": "red", "value": self.limit})
    return {"mode": "absolute", "steps": steps}

  def field_config(self):
    defaults = {"unit": self.unit, "thresholds": self.thresholds()}
    if self.minimum is not None:
      defaults["min"] = self.minimum
    if self.maximum is not None:
      defaults["max"] = self.maximum
    if self.kind == "timeseries":
      defaults["custom"] = {
          "lineWidth": 1, "fillOpacity": 30 if self.stacked else 8,
          "showPoints": "never", "spanNulls": False,
          "stacking": {"mode": "normal" if self.stacked else "none"},
          "thresholdsStyle": {"mode": "off" if self.limit is None else "line"}}
    elif self.kind != "stat":
      defaults["custom"] = {}
    return {"defaults": defaults, "overrides": []}

  def options(self):
    if self.kind == "timeseries":
      return {"legend": {"displayMode": "list", "placement": "bottom"},
              "tooltip": {"mode": "multi", "sort": "desc"}}
    if self.kind == "stat":
      return {"reduceOptions": {"calcs": ["lastNotNull"]},
              "colorMode": "value" if self.colors or self.limit else "none",
              "graphMode": "area", "textMode": "auto"}
    if self.kind == "heatmap":
      return {"calculate": False, "yAxis": {"unit": self.unit},
              "color": {"mode": "scheme", "scheme": "Blues", "steps": 64}}
    return {"showHeader": True}

  def to_json(self, number, x, y):
    instant = self.kind == "table"
    formats = {"table": "table", "heatmap": "heatmap"}
    panel = {
        "id": number, "type": self.kind, "title": self.title,
        "description": self.description, "datasource": PROMETHEUS,
        "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
        "fieldConfig": self.field_config(), "options": self.options(),
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": PROMETHEUS,
             "expr": expression, "legendFormat": legend,
             "instant": instant, "range": not instant,
             "format": formats.get(self.kind, "time_series")}
            for i, (expression, legend) in enumerate(self.queries)]}
    if instant:
      panel["transformations"] = [
          {"id": "organize", "options": {"excludeByName": {
              "Time": True, "Value": True, "__name__": True, "job": True}}}]
    return panel


def annotation(name, color, expression, title, text):
  # True for a minute, and asked for each minute: one mark for each event.
  return {"name": name, "datasource": PROMETHEUS, "enable": True,
          "hide": False, "iconColor": color, "expr": expression,
          "step": "60s", "titleFormat": title, "textFormat": text,
          "useValueForTime": False}


ANNOTATIONS = [
    annotation("Versions", "blue",
               "pot_model_info unless pot_model_info offset 1m",
               "{{model}} version {{version}} is available",
               "{{format}}, sha256 {{sha256}}, {{instance}}"),
    annotation("Aliases", "purple", "changes(pot_model_swaps_total[1m]) > 0",
               "{{model}}@{{alias}} names another version", "{{instance}}"),
]


def variable(name, expression, label):
  return {"name": name, "label": label, "type": "query",
          "datasource": PROMETHEUS, "definition": expression,
          "query": {"query": expression, "refId": name}, "refresh": 2,
          "sort": 1, "includeAll": True, "multi": True, "allValue": ".*",
          "current": {"text": ["All"], "value": ["$__all"]}}


def dashboard(uid, title, description, rows, *, by_model=False):
  panels = []
  y = 0
  for heading, row in rows:
    panels.append({"id": len(panels) + 1, "type": "row", "title": heading,
                   "collapsed": False, "panels": [],
                   "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}})
    y += 1
    x = height = 0
    for panel in row:
      if x + panel.width > COLUMNS:
        x, y, height = 0, y + height, 0
      panels.append(panel.to_json(len(panels) + 1, x, y))
      x += panel.width
      height = max(height, panel.height)
    y += height
  variables = [variable("model", "label_values(pot_model_info, model)",
                        "Model")] if by_model else []
  return {
      "uid": f"pot-{uid}", "title": f"pot: {title}",
      "description": description, "tags": ["pot"], "schemaVersion": 39,
      "editable": False, "graphTooltip": 1, "refresh": "10s",
      "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
      "templating": {"list": variables},
      "annotations": {"list": ANNOTATIONS},
      "links": [{"type": "dashboards", "tags": ["pot"], "title": "pot",
                 "asDropdown": False, "includeVars": True, "keepTime": True}],
      "panels": panels}


MODEL = 'model=~"$model"'


def fault_ratio(window):
  return (f"(sum(rate(grpc_server_handled_total{{{INFERENCE}, {FAULTS}}}"
          f"[{window}])) or vector(0)) / sum(rate(grpc_server_handled_total"
          f"{{{INFERENCE}}}[{window}]))")


def slo():
  return dashboard(
      "slo", "objectives", "What users notice, against what is promised: "
      "README.md of deploy/ has the objectives and the alerts.", [
          ("Objectives", [
              Panel("Availability", [(f"1 - {fault_ratio('$__range')}", "")],
                    kind="stat", unit="percentunit", width=4, height=5,
                    minimum=None, colors=[(0, "red"), (0.999, "green")],
                    description="Inference calls without a fault of the "
                    "server's, over the time shown. Objective: 99.9 %."),
              Panel("Error budget used",
                    [(f"{fault_ratio('$__range')} / 0.001", "")], kind="stat",
                    unit="percentunit", width=4, height=5, limit=1,
                    description="Of the 0.1 % that may fail, at this rate."),
              Panel("First token, p95",
                    [(quantile(0.95, "pot_time_to_first_token_seconds", MODEL),
                      "")], kind="stat", unit="s", width=4, height=5, limit=1,
                    description="Objective: 1 s."),
              Panel("Between tokens, p99",
                    [(quantile(0.99, "pot_inter_token_latency_seconds", MODEL),
                      "")], kind="stat", unit="s", width=4, height=5,
                    limit=0.25, description="Objective: 250 ms."),
              Panel("Refused",
                    [(f"{rate('pot_rejections_total', 'reason=~%s' % REFUSALS)}"
                      f" / {rate('grpc_server_handled_total', INFERENCE)}",
                      "")], kind="stat", unit="percentunit", width=4, height=5,
                    limit=0.05, description="Calls refused because the server "
                    "was full. Above 5 %: too little capacity."),
              Panel("Servers up", [('sum(up{job="pot-server"})', "")],
                    kind="stat", width=4, height=5),
          ]),
          ("Latency", [
              Panel("Time to first token",
                    quantiles("pot_time_to_first_token_seconds", MODEL),
                    unit="s", limit=1),
              Panel("Time between tokens",
                    quantiles("pot_inter_token_latency_seconds", MODEL),
                    unit="s", limit=0.25),
              Panel("Time in the queue",
                    quantiles("pot_queue_time_seconds", MODEL), unit="s"),
              Panel("Time to first token", [
                  (rate("pot_time_to_first_token_seconds_bucket", MODEL, "le"),
                   "{{le}}")], kind="heatmap", unit="s", minimum=None),
              Panel("Time between tokens", [
                  (rate("pot_inter_token_latency_seconds_bucket", MODEL, "le"),
                   "{{le}}")], kind="heatmap", unit="s", minimum=None),
              Panel("From cancellation to stop",
                    quantiles("pot_cancel_to_stop_seconds"), unit="s",
                    description="Two engine steps at most."),
          ]),
          ("Outcomes", [
              Panel("Inference calls by code",
                    [(rate("grpc_server_handled_total", INFERENCE,
                           "grpc_code"), "{{grpc_code}}")], unit="reqps",
                    stacked=True),
              Panel("Refused calls by reason",
                    [(rate("pot_rejections_total", by="reason") + " > 0",
                      "{{reason}}")], unit="reqps", stacked=True),
              Panel("Tokens generated for someone",
                    [(f"{rate('pot_generated_tokens_total', MODEL)} - "
                      f"{rate('pot_wasted_tokens_total', MODEL)}", "delivered"),
                     (rate("pot_wasted_tokens_total", MODEL), "wasted")],
                    unit="short", stacked=True,
                    description="Per second. Wasted: of calls that ended with "
                    "an error, after all."),
          ]),
      ], by_model=True)


def engine():
  by_version = "model, version"
  return dashboard(
      "engine", "engine", "Scheduler, engine, memory and versions.", [
          ("Work", [
              Panel("Tokens per second",
                    [(rate("pot_generated_tokens_total", MODEL), "generated"),
                     (f"{rate('pot_prompt_tokens_total', MODEL)} - "
                      f"{rate('pot_cached_prompt_tokens_total', MODEL)}",
                      "prompt, computed"),
                     (rate("pot_cached_prompt_tokens_total", MODEL),
                      "prompt, cached")], stacked=True),
              Panel("Tasks and sequences",
                    [("sum(pot_requests_running)", "tasks running"),
                     ("sum(pot_requests_waiting)", "tasks waiting"),
                     ("sum(pot_sequences_running)", "sequences"),
                     ("sum(pot_sequences_parked)", "parked by slow readers")]),
              Panel("Sequences and tokens of a step",
                    [(mean("pot_batch_size", by="phase"), "{{phase}}, mean"),
                     (quantile(0.95, "pot_batch_size", by="phase"),
                      "{{phase}}, p95")]),
              Panel("Duration of a step, p50 and p99",
                    [(quantile(0.5, "pot_step_duration_seconds", by="phase"),
                      "{{phase}}, p50"),
                     (quantile(0.99, "pot_step_duration_seconds", by="phase"),
                      "{{phase}}, p99")], unit="s"),
              Panel("Share of time in steps",
                    [(rate("pot_step_duration_seconds_sum", by="phase"),
                      "{{phase}}")], unit="percentunit", stacked=True,
                    description="1 for each server whose engine never rests."),
              Panel("Where a task's time goes, mean",
                    [(mean("pot_queue_time_seconds", MODEL), "queue"),
                     (mean("pot_prefill_time_seconds", MODEL), "prompt"),
                     (mean("pot_decode_time_seconds", MODEL), "generation")],
                    unit="s"),
          ]),
          ("Memory", [
              Panel("KV memory",
                    [("sum(pot_kv_cache_bytes)", "reserved"),
                     ("sum(pot_prefix_cache_bytes)", "cached prompts"),
                     ("sum(pot_kv_cache_capacity_bytes)", "limit")],
                    unit="bytes"),
              Panel("KV memory used",
                    [("pot_kv_cache_usage_ratio", "{{instance}}")],
                    unit="percentunit", maximum=1, limit=0.95),
              Panel("Prompt tokens from the cache",
                    [(f"{rate('pot_cached_prompt_tokens_total', MODEL)} / "
                      f"{rate('pot_prompt_tokens_total', MODEL)}", "share")],
                    unit="percentunit", maximum=1),
              Panel("Process",
                    [('process_resident_memory_bytes{job="pot-server"}',
                      "{{instance}} resident")], unit="bytes"),
              Panel("Weights",
                    [(f"pot_model_resident_bytes{{{MODEL}}}",
                      "{{model}}/{{version}}")], unit="bytes", stacked=True),
              Panel("Open files",
                    [('process_open_fds{job="pot-server"}', "{{instance}}")]),
          ]),
          ("Processor", [
              Panel("Cores used",
                    [('rate(process_cpu_seconds_total{job="pot-server"}'
                      "[$__rate_interval])", "{{instance}}")]),
              Panel("Threads",
                    [('process_threads{job="pot-server"}', "{{instance}}")]),
              Panel("Engines",
                    [("pot_engine_info", "")], kind="table"),
          ]),
          ("Versions", [
              Panel("State", [(f"pot_model_state{{{MODEL}}}", "")],
                    kind="table", width=12),
              Panel("Available", [(f"pot_model_info{{{MODEL}}}", "")],
                    kind="table", width=12),
              Panel("Version by alias",
                    [(f"max by (model, alias) (pot_model_alias_version"
                      f"{{{MODEL}}})", "{{model}}@{{alias}}")],
                    minimum=None),
              Panel("Time to load",
                    [(f"max by ({by_version}) (pot_model_load_seconds"
                      f"{{{MODEL}}})", "{{model}}/{{version}}")], unit="s"),
              Panel("Generated tokens by version",
                    [(rate("pot_generated_tokens_total", MODEL, by_version),
                      "{{model}}/{{version}}")], stacked=True),
          ]),
      ], by_model=True)


def training():
  return dashboard(
      "training", "training", "Jobs, workers, and what they publish.", [
          ("Jobs", [
              Panel("Jobs by state",
                    [("sum by (state) (pot_jobs) > 0", "{{state}}")],
                    stacked=True),
              Panel("Progress",
                    [("pot_job_progress_ratio", "{{exported_job}}")], unit="percentunit", maximum=1),
              Panel("Time to the end of training",
                    [("pot_job_eta_seconds", "{{exported_job}}")], unit="s"),
              Panel("Loss on training text, running mean",
                    [("pot_job_train_loss", "{{exported_job}}")], unit="short",
                    minimum=None, description="Nats per token."),
              Panel("Perplexity on validation text",
                    [("pot_job_val_perplexity", "{{exported_job}}")],
                    minimum=None),
              Panel("Training tokens per second",
                    [("pot_job_tokens_per_second", "{{exported_job}}")]),
          ]),
          ("Workers", [
              Panel("Workers up", [('sum(up{job="pot-trainer"})', "")],
                    kind="stat", width=4),
              Panel("Jobs held", [("pot_worker_job", "")], kind="table",
                    width=8),
              Panel("Leases that ended",
                    [("sum by (outcome) (increase(pot_worker_jobs_total"
                      "[$__range])) > 0", "{{outcome}}")], width=6),
              Panel("Leases that expired",
                    [("sum(increase(pot_lease_expirations_total[$__range]))",
                      "")], kind="stat", width=6, limit=3,
                    description="Workers that were not heard of in time."),
              Panel("Steps per second",
                    [("rate(pot_worker_steps_total[$__rate_interval])",
                      "{{instance}}")]),
              Panel("Training tokens per second",
                    [("pot_worker_tokens_per_second", "{{instance}}")]),
              Panel("Cores used",
                    [('rate(process_cpu_seconds_total{job="pot-trainer"}'
                      "[$__rate_interval])", "{{instance}}")]),
              Panel("Loss of the last step",
                    [("pot_worker_train_loss", "{{instance}}")], minimum=None),
              Panel("Resident memory",
                    [('process_resident_memory_bytes{job="pot-trainer"}',
                      "{{instance}}")], unit="bytes"),
              Panel("Serving beside training, p99 between tokens",
                    [(quantile(0.99, "pot_inter_token_latency_seconds"),
                      "p99")], unit="s",
                    description="The server tells workers to yield when it "
                    "is above --itl-target-ms."),
          ]),
          ("What came out", [
              Panel("Publications",
                    [("sum by (result) (increase(pot_publish_total"
                      "[$__range]))", "{{result}}")]),
              Panel("Perplexity of versions",
                    [("max by (model, version) (pot_model_eval_perplexity)",
                      "{{model}}/{{version}}")], minimum=None,
                    description="On the validation text of the job that made "
                    "it."),
              Panel("Moves of aliases",
                    [("sum by (model, alias) (increase(pot_model_swaps_total"
                      "[$__range]))", "{{model}}@{{alias}}")]),
          ]),
      ])


def clients():
  method = "grpc_service, grpc_method"
  legend = "{{grpc_method}}"
  return dashboard(
      "clients", "clients", "Calls as clients make them, of every service.", [
          ("Calls", [
              Panel("Started by method",
                    [(rate("grpc_server_started_total", by=method) + " > 0",
                      legend)], unit="reqps", stacked=True),
              Panel("Ended by code",
                    [(rate("grpc_server_handled_total", by="grpc_code")
                      + " > 0", "{{grpc_code}}")], unit="reqps", stacked=True),
              Panel("Open now",
                    [(f"sum by ({method}) (grpc_server_started_total) - "
                      f"sum by ({method}) (grpc_server_handled_total) > 0",
                      legend)],
                    description="Started and not ended: streams, watchers."),
              Panel("Mistakes of clients",
                    [(rate("grpc_server_handled_total",
                           'grpc_code=~"INVALID_ARGUMENT|NOT_FOUND'
                           "|FAILED_PRECONDITION|UNAUTHENTICATED"
                           '|PERMISSION_DENIED|ALREADY_EXISTS|ABORTED'
                           '|OUT_OF_RANGE|UNIMPLEMENTED"',
                           "grpc_method, grpc_code"),
                      "{{grpc_method}} {{grpc_code}}")], unit="reqps"),
              Panel("Cancelled and too late",
                    [(rate("grpc_server_handled_total",
                           'grpc_code=~"CANCELLED|DEADLINE_EXCEEDED"',
                           "grpc_method, grpc_code"),
                      "{{grpc_method}} {{grpc_code}}")], unit="reqps"),
              Panel("Refused by reason",
                    [(rate("pot_rejections_total", by="reason") + " > 0",
                      "{{reason}}")], unit="reqps", stacked=True),
          ]),
          ("Latency of whole calls", [
              Panel("p50 by method",
                    [(quantile(0.5, "grpc_server_handling_seconds", by=method),
                      legend)], unit="s", width=12),
              Panel("p99 by method",
                    [(quantile(0.99, "grpc_server_handling_seconds",
                               by=method), legend)], unit="s", width=12),
          ]),
          ("What they ask for", [
              Panel("Inference calls by model",
                    [(rate("pot_requests_total", MODEL, "model, version"),
                      "{{model}}/{{version}}")], unit="reqps", stacked=True),
              Panel("Inference calls by method and code",
                    [(rate("pot_requests_total", MODEL, "method, code"),
                      "{{method}} {{code}}")], unit="reqps", stacked=True),
              Panel("Tokens of a task, mean",
                    [(f"{rate('pot_prompt_tokens_total', MODEL)} / "
                      f"{rate('pot_prefill_time_seconds_count', MODEL)}",
                      "prompt or window"),
                     (f"{rate('pot_generated_tokens_total', MODEL)} / "
                      f"{rate('pot_decode_time_seconds_count', MODEL)}",
                      "generated")]),
          ]),
      ], by_model=True)


def main():
  OUT.mkdir(exist_ok=True)
  for name, make in (("slo", slo), ("engine", engine),
                     ("training", training), ("clients", clients)):
    text = json.dumps(make(), indent=1, ensure_ascii=False) + "\n"
    (OUT / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
  main()
