"""The PromQL expressions of deploy/, each with where it stands."""

import json
import pathlib
import re

import yaml

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"

# What Grafana puts in, for a test of seconds. A variable's "All" is ".*".
VARIABLES = {"$__rate_interval": "30s", "$__range": "30s", "$model": ".*"}


def _with_values(expression):
  for name, value in VARIABLES.items():
    expression = expression.replace(name, value)
  assert "$" not in expression, f"an unknown variable in {expression}"
  return expression


def of_dashboards():
  """Pairs of a place and an expression: panels, annotations, variables."""
  for path in DASHBOARDS:
    dashboard = json.loads(path.read_text())
    for panel in dashboard["panels"]:
      for target in panel.get("targets", ()):
        yield (f"{path.stem}: {panel['title']} {target['refId']}",
               _with_values(target["expr"]))
    for annotation in dashboard["annotations"]["list"]:
      yield (f"{path.stem}: annotation {annotation['name']}",
             _with_values(annotation["expr"]))
    for variable in dashboard["templating"]["list"]:
      series, label = re.fullmatch(r"label_values\((.*), (\w+)\)",
                                   variable["definition"]).groups()
      yield (f"{path.stem}: variable {variable['name']}",
             f'group by ({label}) ({series}) == 1')


def of_alerts():
  for group in yaml.safe_load(ALERTS.read_text())["groups"]:
    for rule in group["rules"]:
      yield rule["alert"], rule["expr"]


_SPLIT = re.compile(
    r"\s(and|or|unless|[<>]=?|[!=]=)\s*(?:bool\b)?"
    r"(?:\s*(?:on|ignoring)\s*\([^)]*\))?\s", re.VERBOSE)


def _inside(expression):
  """Without parentheses around the whole, or absent() around it."""
  while True:
    expression = expression.strip()
    opening = re.match(r"(?:absent\s*)?\(", expression)
    if not opening or _closing(expression, opening.end() - 1) != len(
        expression) - 1:
      return expression
    expression = expression[opening.end():-1]


def _closing(expression, opening):
  depth = 0
  for i in range(opening, len(expression)):
    depth += {"(": 1, ")": -1}.get(expression[i], 0)
    if depth == 0:
      return i
  raise ValueError(f"unbalanced parentheses in {expression}")


def operands(expression):
  """What an expression compares and combines, without the numbers.

  An alert is empty as long as all is well, "or vector(0)" makes up for a series
  that is not there, and nothing was there before the test. With thresholds,
  fallbacks and offsets taken away, each operand of `and`, `or`, `unless` and of
  a comparison must find something, or else a name or a label is wrong.
  """
  expression = re.sub(r"\sor vector\(0\)|\soffset \w+", "", expression)
  expression = _inside(expression.replace("\n", " "))
  depth = 0
  parts = []
  begin = i = 0
  while i < len(expression):
    depth += {"(": 1, ")": -1, "{": 1, "}": -1}.get(expression[i], 0)
    split = _SPLIT.match(expression, i) if depth == 0 else None
    if split:
      parts.append(expression[begin:i])
      begin = i = split.end()
    else:
      i += 1
  parts.append(expression[begin:])
  if len(parts) > 1:
    return [operand for part in parts for operand in operands(part)]
  if re.fullmatch(r"[\d.]+", expression):
    return []
  return [expression]
