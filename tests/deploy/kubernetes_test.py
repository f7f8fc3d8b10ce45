#!/usr/bin/python3
"""deploy/k8s: each overlay, built by kustomize and held against the schemas.

kubectl has kustomize in it; the schemas are npm packages, which the first run
installs. Without one of the two this is skipped.

Usage: kubernetes_test.py --server POT_SERVER --trainer POT_TRAINER
"""

import json
import pathlib
import shutil
import subprocess
import unittest

import yaml

import deploy_testing
import pot_testing
from deploy_testing import DEPLOY
from deploy_testing import seconds

SCHEMAS = pathlib.Path(__file__).resolve().parent / "kubernetes"
# npm wants its packages beside what imports them.
INSTALLED = deploy_testing.ROOT / "build" / "kubernetes-schemas"
KUBERNETES = DEPLOY / "k8s"
OVERLAYS = ("base", "overlays/small", "overlays/production")


def install_schemas():
  INSTALLED.mkdir(parents=True, exist_ok=True)
  shutil.copy(SCHEMAS / "validate.mjs", INSTALLED)
  lock = SCHEMAS / "package-lock.json"
  done = INSTALLED / "node_modules" / "installed"
  if done.exists() and done.read_bytes() == lock.read_bytes():
    return
  deploy_testing.require("npm", "deploy/k8s")
  for name in ("package.json", lock.name):
    shutil.copy(SCHEMAS / name, INSTALLED)
  result = subprocess.run(
      ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
      cwd=INSTALLED, capture_output=True, text=True,
      timeout=pot_testing.PATIENCE, check=False)
  if result.returncode != 0:
    deploy_testing.skip("npm cannot install the schemas of deploy/k8s: "
                        + result.stderr[-500:])
  shutil.copy(lock, done)


def objects_of(overlay):
  text = deploy_testing.run("kubectl", "kustomize", KUBERNETES / overlay)
  return list(yaml.safe_load_all(text))


def complaints(objects):
  """What is wrong with them, a line each."""
  result = subprocess.run(
      ["node", INSTALLED / "validate.mjs"], input=json.dumps(objects),
      capture_output=True, text=True, timeout=pot_testing.PATIENCE,
      check=False)
  if result.returncode not in (0, 1):
    raise AssertionError(result.stderr)
  return result.stdout.splitlines()


class KubernetesTest(unittest.TestCase):

  @classmethod
  def setUpClass(cls):
    deploy_testing.require("kubectl", "deploy/k8s")
    deploy_testing.require("node", "deploy/k8s")
    install_schemas()
    cls.overlays = {name: objects_of(name) for name in OVERLAYS}

  def each(self, kind):
    for overlay, objects in self.overlays.items():
      for item in objects:
        if item["kind"] == kind:
          yield f"{overlay}: {kind} {item['metadata']['name']}", item

  def pods(self):
    for kind in ("StatefulSet", "Deployment"):
      for place, item in self.each(kind):
        yield place, item["spec"]["template"]["spec"]

  def test_schemas(self):
    every = [item for objects in self.overlays.values() for item in objects]
    # README.md makes this one of the rules.
    every.append({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
        "metadata": {"name": "pot"}, "spec": yaml.safe_load(
            (DEPLOY / "prometheus" / "alerts.yaml").read_text())})
    self.assertEqual([], complaints(every))
    self.assertLess(20, len(every))

  def test_the_validator_finds_mistakes(self):
    text = json.dumps(next(item for item in self.overlays["base"]
                           if item["kind"] == "StatefulSet"))
    wrong = []
    for name, old, new in (("unknown", '"serviceName"', '"service"'),
                           ("type", '"replicas": 1', '"replicas": "one"'),
                           ("kind", '"StatefulSet"', '"StatefullSet"')):
      self.assertIn(old, text)
      item = json.loads(text.replace(old, new))
      item["metadata"]["name"] = name
      wrong.append(item)
    found = complaints(wrong)
    for item in wrong:
      name = f"{item['kind']} {item['metadata']['name']}: "
      self.assertTrue([line for line in found if line.startswith(name)],
                      f"{name} in {found}")

  def test_references_lead_somewhere(self):
    for overlay, objects in self.overlays.items():
      names = {(item["kind"], item["metadata"]["name"]) for item in objects}
      templates = [item["spec"]["template"] for item in objects
                   if item["kind"] in ("StatefulSet", "Deployment")]

      def selected(selector, templates=templates):
        return any(selector.items() <= template["metadata"]["labels"].items()
                   for template in templates)

      for item in objects:
        place = f"{overlay}: {item['kind']} {item['metadata']['name']}"
        spec = item.get("spec", {})
        if item["kind"] == "StatefulSet":
          self.assertIn(("Service", spec["serviceName"]), names, place)
        if item["kind"] == "HorizontalPodAutoscaler":
          target = spec["scaleTargetRef"]
          self.assertIn((target["kind"], target["name"]), names, place)
        if item["kind"] == "Service":
          selector = dict(spec["selector"])
          selector.pop("statefulset.kubernetes.io/pod-name", None)
          self.assertTrue(selected(selector), place)
        if item["kind"] in ("PodDisruptionBudget", "PodMonitor"):
          self.assertTrue(selected(spec["selector"]["matchLabels"]), place)
        if item["kind"] == "NetworkPolicy":
          self.assertTrue(selected(spec["podSelector"]["matchLabels"]), place)

  def test_pods_have_few_rights_and_limits(self):
    for place, pod in self.pods():
      with self.subTest(place):
        self.assertTrue(pod["securityContext"]["runAsNonRoot"])
        self.assertEqual("RuntimeDefault",
                         pod["securityContext"]["seccompProfile"]["type"])
        self.assertFalse(pod["automountServiceAccountToken"])
        # Kubernetes would set POT_SERVER_PORT and its like.
        self.assertFalse(pod["enableServiceLinks"])
        for container in pod["containers"] + pod.get("initContainers", []):
          context = container["securityContext"]
          self.assertTrue(context["readOnlyRootFilesystem"])
          self.assertFalse(context["allowPrivilegeEscalation"])
          self.assertEqual(["ALL"], context["capabilities"]["drop"])
          self.assertIn("memory", container["resources"]["limits"])

  def test_a_stop_waits_for_the_drain(self):
    for place, item in self.each("StatefulSet"):
      pod = item["spec"]["template"]["spec"]
      server = pod["containers"][0]
      variables = {entry["name"]: entry.get("value")
                   for entry in server["env"]}
      wait = int(server["lifecycle"]["preStop"]["exec"]["command"][1])
      drain = seconds(variables["POT_SERVER_DRAIN_TIMEOUT"])
      self.assertLess(wait + drain + 5, pod["terminationGracePeriodSeconds"],
                      place)

  def test_programs_know_their_settings(self):
    for place, pod in self.pods():
      for container in pod["containers"]:
        deploy_testing.check_server_variables(
            self, [entry["name"] for entry in container.get("env", ())], place)
        if container["name"] == "trainer":
          deploy_testing.check_worker_flags(self, container["args"], place)


class SeedModelsTest(unittest.TestCase):
  """What fills a volume that begins empty."""

  def test_adds_what_is_missing_and_leaves_the_rest_alone(self):
    root = pot_testing.temporary_directory()
    image, volume = root / "image", root / "volume"
    shutil.copytree(DEPLOY / "models", image,
                    ignore=shutil.ignore_patterns(".*"))
    volume.mkdir()

    def seed():
      return deploy_testing.run(DEPLOY / "seed-models", image,
                                volume).splitlines()

    versions = sorted(f"{version.parent.name}/{version.name}"
                      for version in image.glob("*/[0-9]*"))
    self.assertIn("novels/1", versions)
    self.assertIn("shakespeare-char/3", versions)
    self.assertEqual([f"seed-models: {version}" for version in versions],
                     seed())
    self.assertEqual(pot_testing.tree_of(image), pot_testing.tree_of(volume))
    self.assertEqual([], seed())
    model = volume / "shakespeare-char"
    (model / "aliases.jsonl").write_text("the operator's\n")
    shutil.rmtree(model / "2")
    (model / ".seed").mkdir()
    (model / ".seed" / "half").write_text("of a copy that was cut short")
    self.assertEqual(["seed-models: shakespeare-char/2"], seed())
    self.assertEqual("the operator's\n",
                     (model / "aliases.jsonl").read_text())
    self.assertEqual(pot_testing.tree_of(image / "shakespeare-char/2"),
                     pot_testing.tree_of(model / "2"))
    self.assertFalse((model / ".seed").exists())


if __name__ == "__main__":
  pot_testing.main()
