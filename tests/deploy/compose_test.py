#!/usr/bin/python3
"""deploy/compose.yaml as Compose itself understands it.

Usage: compose_test.py --server POT_SERVER --trainer POT_TRAINER
"""

import re
import shutil
import subprocess
import unittest

import yaml

import deploy_testing
import pot_testing
from deploy_testing import DEPLOY
from deploy_testing import ROOT
from deploy_testing import seconds

OURS = ("server", "trainer")


def configuration():
  """What `docker compose config` makes of the file; skips without Compose."""
  file = DEPLOY / "compose.yaml"
  plugin = shutil.which("docker") and subprocess.run(
      ["docker", "compose", "version"], capture_output=True,
      check=False).returncode == 0
  if plugin:
    return yaml.safe_load(
        deploy_testing.run("docker", "compose", "-f", file, "config"))
  deploy_testing.require("docker-compose", "compose.yaml")
  # Debian's, which is older than the name of a project.
  text = "".join(line for line in file.read_text().splitlines(keepends=True)
                 if not line.startswith("name:"))
  return yaml.safe_load(
      deploy_testing.run("docker-compose", "-p", "pot", "-f", "-", "config",
                         stdin=text, cwd=DEPLOY))


class ComposeTest(unittest.TestCase):

  @classmethod
  def setUpClass(cls):
    cls.file = configuration()
    cls.services = cls.file["services"]

  def test_services(self):
    self.assertEqual({"server", "trainer", "prometheus", "grafana"},
                     set(self.services))

  def test_nobody_has_more_rights_than_needed(self):
    for name, service in self.services.items():
      with self.subTest(name):
        self.assertTrue(service["read_only"])
        self.assertEqual(["ALL"], service["cap_drop"])
        self.assertEqual(["no-new-privileges:true"], service["security_opt"])
        self.assertNotIn("privileged", service)
        for mount in service["volumes"]:
          self.assertNotIn("docker.sock", str(mount))

  def test_nobody_takes_the_whole_machine(self):
    for name, service in self.services.items():
      with self.subTest(name):
        limits = service["deploy"]["resources"]["limits"]
        self.assertLess(0, float(limits["cpus"]))
        self.assertTrue(limits["memory"])
        self.assertLess(0, service["pids_limit"])
        self.assertEqual("unless-stopped", service["restart"])

  def test_only_this_host_gets_in(self):
    for service in self.services.values():
      for port in service.get("ports", ()):
        host = port["host_ip"] if isinstance(port, dict) else port
        self.assertRegex(host, r"^127\.0\.0\.1")

  def test_a_stop_waits_for_the_drain(self):
    server = self.services["server"]
    self.assertLess(
        seconds(server["environment"]["POT_SERVER_DRAIN_TIMEOUT"]) + 5,
        seconds(server["stop_grace_period"]))

  def test_programs_know_their_settings(self):
    deploy_testing.check_server_variables(
        self, self.services["server"]["environment"], "compose.yaml")
    deploy_testing.check_worker_flags(
        self, self.services["trainer"]["command"], "compose.yaml")
    dockerfile = (ROOT / "Dockerfile").read_text()
    variables = [word.split("=")[0] for word in dockerfile.split()
                 if word.startswith("POT_SERVER_")]
    self.assertLess(2, len(variables))
    deploy_testing.check_server_variables(self, variables, "Dockerfile")

  def test_the_image_is_built_of_all_sources(self):
    cmake = (ROOT / "CMakeLists.txt").read_text()
    folders = set(re.findall(r"add_subdirectory\((\w+)\)", cmake)) - {"tests"}
    copied = set(re.findall(r"(?m)^COPY (\w+) \1$",
                            (ROOT / "Dockerfile").read_text()))
    self.assertEqual(folders | {"cmake"}, copied)

  def test_prometheus_asks_where_they_answer(self):
    config = yaml.safe_load(
        (DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"]
               for job in config["scrape_configs"]}
    dockerfile = (ROOT / "Dockerfile").read_text()
    host, port = targets["pot-server"][0].split(":")
    self.assertEqual("server", host)
    self.assertIn(f"POT_SERVER_METRICS_LISTEN=0.0.0.0:{port}", dockerfile)
    host, port = targets["pot-trainer"][0].split(":")
    self.assertEqual("trainer", host)
    self.assertIn(f"--metrics-listen=0.0.0.0:{port}",
                  self.services["trainer"]["command"])
    networks = {name: set(service["networks"])
                for name, service in self.services.items()}
    for name in OURS:
      self.assertTrue(networks[name] & networks["prometheus"])
    self.assertTrue(networks["grafana"] & networks["prometheus"])

  def test_grafana_finds_what_is_provisioned(self):
    grafana = self.services["grafana"]
    mounts = dict(str(mount).split(":")[:2][::-1]
                  if isinstance(mount, str)
                  else (mount["target"], mount["source"])
                  for mount in grafana["volumes"])
    provider = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/dashboards/pot.yaml").read_text())
    path = provider["providers"][0]["options"]["path"]
    self.assertEqual(str(DEPLOY / "grafana" / "dashboards"), mounts[path])
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    self.assertTrue(
        (DEPLOY / "grafana" / "dashboards"
         / home.removeprefix(path + "/")).exists())
    source = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yaml")
        .read_text())["datasources"][0]
    self.assertEqual("http://prometheus:9090", source["url"])


if __name__ == "__main__":
  pot_testing.main()
