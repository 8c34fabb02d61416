#!/usr/bin/python3 -B
"""The alerts that ship: tested by promtool, explained in the runbook, and taken by a real Prometheus that scrapes a real daemon."""
import json
import math
import os
import re
import shutil
import signal
import subprocess
import unittest
import urllib.parse
import urllib.request

import grpc

from harness import ROOT, WAIT, run, wait_for
from served import Served, picture

RULES = os.path.join(ROOT, "config/prometheus/biomatchd.rules.yml")
TESTS = os.path.join(ROOT, "tests/prometheus/alerts.yml")
DASHBOARD = os.path.join(ROOT, "config/grafana/biomatchd.json")
RUNBOOK = os.path.join(ROOT, "docs/runbook.md")

CONFIGURATION = """global: {{scrape_interval: 250ms, evaluation_interval: 250ms, scrape_timeout: 250ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: biomatchd
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""

NOT_INSTALLED = "Debian's package prometheus is not installed"


def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


class RulesTest(unittest.TestCase):
    def setUp(self):
        self.alerts = re.findall(r"- alert: (\w+)", text_of(RULES))
        self.assertGreater(len(self.alerts), 20)

    @unittest.skipUnless(shutil.which("promtool"), NOT_INSTALLED)
    def test_promtool(self):
        for command in (["check", "rules", RULES], ["test", "rules", TESTS]):
            done = run("promtool", *command)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_alert_is_tested_quiet_and_firing(self):
        tests = text_of(TESTS)
        for alert in self.alerts:
            self.assertRegex(tests, r"alertname: %s, exp_alerts: \[\]" % alert)
            self.assertRegex(tests, r"alertname: %s\n +exp_alerts:\n +- exp_labels" % alert)

    def test_every_alert_is_in_the_runbook(self):
        sections = set(re.findall(r"^## (\w+)$", text_of(RUNBOOK), re.M))
        pages = re.findall(r"runbook: docs/runbook.md#(\w+)", text_of(RULES))
        self.assertEqual(len(pages), len(self.alerts))
        self.assertEqual({section.lower() for section in sections}, set(pages))

    def test_events_of_the_runbook_are_logged(self):
        source = "".join(text_of(os.path.join(folder, name)) for folder, _, names in os.walk(os.path.join(ROOT, "src"))
                         for name in names if name.endswith(".c"))
        events = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text_of(RUNBOOK)))
        for event in {event for event in events if not event.startswith("biomatch_")} - {"target_fmr"}:
            self.assertIn('"%s"' % event, source)


class Prometheus:
    """A running Prometheus that scrapes one daemon and has our rules."""

    def __init__(self, place, port):
        place.write("prometheus.yml", CONFIGURATION.format(rules=RULES, port=port))
        self.log = place.path("prometheus.log")
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                ["prometheus", "--config.file=" + place.path("prometheus.yml"), "--web.listen-address=127.0.0.1:0",
                 "--storage.tsdb.path=" + place.path("tsdb")], stdin=subprocess.DEVNULL, stderr=log)
        place.addCleanup(self.stop)
        found = wait_for(self.listening, "Prometheus")
        self.url = "http://127.0.0.1:%s/api/v1/" % found.group(1)
        wait_for(lambda: "Server is ready to receive web requests" in text_of(self.log), "Prometheus to be ready")

    def listening(self):
        if self.process.poll() is not None:
            raise AssertionError(text_of(self.log))
        return re.search(r'msg="Listening on" address=127\.0\.0\.1:(\d+)', text_of(self.log))

    def stop(self):
        self.process.kill()
        self.process.wait(WAIT)

    def get(self, path, **arguments):
        with urllib.request.urlopen(self.url + path + "?" + urllib.parse.urlencode(arguments), timeout=WAIT) as reply:
            return json.load(reply)["data"]

    def value(self, query):
        found = self.get("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None

    def alerts(self):
        return {rule["name"]: rule for group in self.get("rules")["groups"] for rule in group["rules"]}


@unittest.skipUnless(shutil.which("prometheus"), NOT_INSTALLED)
class PrometheusTest(Served):
    def test_scrape(self):
        self.lane.enrol("ada", picture(self.ada[0]))
        self.lane.verify("ada", picture(self.ada[1]))
        prometheus = Prometheus(self, self.daemon.ops_port())
        wait_for(lambda: prometheus.value('up{job="biomatchd"}') == 1, "the scrape")
        self.assertEqual(prometheus.value('biomatch_rpcs_total{method="Verify",status="OK",class="lane"}'), 1)
        self.assertEqual(prometheus.value('biomatch_decisions_total{method="Verify",decision="MATCH"}'), 1)
        self.assertGreater(prometheus.value(
            'histogram_quantile(0.5, sum by (le) (biomatch_stage_seconds_bucket{stage="embed"}))'), 0)
        kinds = {name: entry[0]["type"] for name, entry in prometheus.get("metadata").items()}
        self.assertEqual(kinds["biomatch_rpcs_total"], "counter")
        self.assertEqual(kinds["biomatch_stage_seconds"], "histogram")
        self.assertEqual(kinds["biomatch_gallery_references"], "gauge")

        # Every name that a rule or the runbook uses is told; the list's age only where there is a list, the lag only by a standby.
        told = set(kinds) | {name + "_bucket" for name, kind in kinds.items() if kind == "histogram"}
        for path in (RULES, RUNBOOK):
            used = set(re.findall(r"\bbiomatch_\w+", text_of(path)))
            self.assertLessEqual(used - told, {"biomatch_crl_next_update_seconds", "biomatch_standby_lag_seconds"}, path)

    def test_dashboard(self):
        """Each query of the dashboard gives figures of a daemon at work."""
        with open(DASHBOARD, encoding="utf-8") as file:
            panels = json.load(file)["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        queries = {target["expr"] for panel in panels for target in panel.get("targets", [])}
        self.assertGreater(len(queries), 20)
        self.assertEqual([panel["title"] for panel in panels if not panel.get("targets") and panel["type"] != "row"], [])
        prometheus = Prometheus(self, self.daemon.ops_port())
        self.lane.enrol("stranger", picture(self.strangers[0]))
        for number in range(2):  # what is first counted between two scrapes has no rate yet
            self.lane.enrol("ada-%d" % number, picture(self.ada[0]))
            self.lane.verify("ada-0", picture(self.ada[1]))
            self.lane.verify("nobody", picture(self.ada[1]))
            self.lane.identify(picture(self.ada[1]))
            with self.assertRaises(grpc.RpcError):
                self.lane.verify("ada-0", picture(self.ada[1]), gallery="arrivals")
            done = self.daemon.metrics()['biomatch_estate_calls_total{site="hall",class="lane",status="OK"}']
            wait_for(lambda: prometheus.value('biomatch_estate_calls_total{site="hall",class="lane",status="OK"}') == done,
                     "the scrape")
        for query in sorted(queries):
            with self.subTest(query):
                found = prometheus.get("query", query=query.replace("$__rate_interval", "1m").replace("$instance", ".*"))["result"]
                self.assertTrue([entry for entry in found if math.isfinite(float(entry["value"][1]))], found)

    def test_alerts(self):
        prometheus = Prometheus(self, self.daemon.ops_port())
        wait_for(lambda: prometheus.value('up{job="biomatchd"}') == 1, "the scrape")
        wait_for(lambda: all(rule["health"] == "ok" for rule in prometheus.alerts().values()), "every rule's first round")
        self.assertEqual([name for name, rule in prometheus.alerts().items() if rule["state"] != "inactive"], [])

        self.write("policy.yaml", "version: 1\nnonsense\n")
        self.daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: prometheus.alerts()["BiomatchReloadRefused"]["state"] == "pending", "the refused policy")
        self.assertEqual(prometheus.alerts()["BiomatchReloadRefused"]["alerts"][0]["labels"]["what"], "policy")
        self.assertEqual(self.daemon.stop(), 0)
        wait_for(lambda: prometheus.alerts()["BiomatchDown"]["state"] == "pending", "the daemon's end")


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(verbosity=2)
