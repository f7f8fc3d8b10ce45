#!/usr/bin/python3
"""pot-trainer report as a user runs it: its rows, its files, and what it refuses."""

import csv
import json
import re

import trainer_testing
from trainer_testing import TINY, TrainerTest, run


class ReportTest(TrainerTest):

  def setUp(self):
    super().setUp()
    self.text = self.dir / "text"
    self.text.write_text(
        "".join(f"the power of {i * i} and the other, " for i in range(200)))

  def test_reports_what_each_way_to_quantize_costs(self):
    out = self.dir / "report"

    def report(*arguments):
      return run("report", TINY, self.text, "--out", out, "--formats",
                 "pot4,pot3", "--granularities", "row,g64", "--methods",
                 "rtn,gptq,rtn+outliers+equalize", "--calibration-tokens", 512, "--tokens", 500,
                 "--threads", 2, "--jobs", 2,
                 *arguments)

    result = report()
    self.assertEqual(0, result.returncode, result.stderr)
    rows = json.loads((out / "report.json").read_text())["rows"]
    self.assertEqual(13, len(rows))
    by_key = {(r["format"], r["granularity"], r["method"]): r for r in rows}
    self.assertEqual(32, by_key["f32", "", ""]["bits_per_weight"])
    # Of floats against themselves; a float product is not the same bits in every
    # place in memory.
    self.assertAlmostEqual(0, by_key["f32", "", ""]["mean_kl_nats"], delta=1e-9)
    fine = by_key["pot4", "g64", "rtn"]
    coarse = by_key["pot3", "g64", "rtn"]
    self.assertGreater(fine["bits_per_weight"], coarse["bits_per_weight"])
    self.assertLess(fine["mean_kl_nats"], coarse["mean_kl_nats"])
    for kind, error in fine["squared_error"].items():
      self.assertLess(error, coarse["squared_error"][kind], kind)
    both = by_key["pot4", "g64", "rtn+outliers+equalize"]
    # A thousandth of the weights in 48 bits, and a scale of them per matrix.
    self.assertTrue(0.04 < both["bits_per_weight"] - fine["bits_per_weight"]
                    < 0.08, both)
    self.assertEqual({}, both["squared_error"])
    # Each figure is that of the command that makes one model.
    self.assertEqual(0, run("quantize", "--from", TINY, "--format", "pot4",
                            "--granularity", "g64", "--out",
                            self.dir / "repo/tiny").returncode)
    text = self.dir / "first"
    text.write_text(self.text.read_text())
    result = run("eval", self.dir / "repo/tiny", text, "--output", "json")
    alone = json.loads(result.stdout)[0]
    whole = run("report", TINY, text, "--out", self.dir / "one", "--formats",
                "pot4", "--granularities", "g64", "--methods", "rtn",
                "--skip-plot", "--skip-speed")
    self.assertEqual(0, whole.returncode, whole.stderr)
    row = json.loads((self.dir / "one/report.json").read_text())["rows"][1]
    self.assertEqual(alone["perplexity"], row["perplexity"])
    self.assertEqual(0, row["decode_tokens_per_second"])
    # Markdown, CSV and plots have the same rows.
    table = (out / "report.md").read_text()
    self.assertEqual(13, len(re.findall(r"^\| (\*\*)?(f32|pot)", table, re.M)))
    with (out / "report.csv").open(newline="") as file:
      for row, line in zip(rows, csv.DictReader(file), strict=True):
        # It has nine digits.
        self.assertAlmostEqual(1, float(line["perplexity"]) / row["perplexity"],
                               delta=1e-8)
    self.assertIn("pot4 rtn", (out / "plot.svg").read_text())
    self.assertEqual(b"\x89PNG", (out / "plot.png").read_bytes()[:4])
    self.assertFalse((out / "models").exists())

    # What is there is not measured again, and not mixed with another text's.
    (out / "rows/pot3-row-gptq.json").unlink()
    before = (out / "rows/pot4-row-rtn.json").stat().st_mtime_ns
    result = report()
    self.assertEqual(0, result.returncode, result.stderr)
    self.assertIn("12 rows were in", result.stderr)
    self.assertEqual(before,
                     (out / "rows/pot4-row-rtn.json").stat().st_mtime_ns)
    self.assert_fails(report("--slice", "0.5:1"), 2, "measured with another",
                      "text")
    self.assert_fails(report("--formats", "pot9"), 2, "pot9")
    self.assert_fails(report("--methods", "rtn"), 2, "twice")
    self.assert_fails(report("--methods", "rtn+gptq"), 2, "+outliers", "gptq")
    self.assert_fails(report("--formats", "mixed3,5"), 2, "known formats are")
    self.assert_fails(report("--formats", "mixed"), 2, '"mixed"',
                      "from 1 to 32")
    self.assert_fails(run("report", TINY, self.text, "--out", out, "--jobs",
                          3, "--threads", 2), 2, "--jobs is at most")

  def test_mixed_formats_stand_between_theirs(self):
    out = self.dir / "report"

    def report(formats, *arguments):
      return run("report", TINY, self.text, "--out", out, "--formats", formats,
                 "--granularities", "g64", "--methods", "rtn,gptq",
                 "--calibration-tokens", 1024, "--tokens", 1000, "--skip-speed",
                 "--skip-plot", *arguments)

    result = report("pot2,mixed3.5,twohot4")
    self.assertEqual(0, result.returncode, result.stderr)
    rows = {(row["format"], row["method"]): row for row in
            json.loads((out / "report.json").read_text())["rows"]}
    self.assertEqual(7, len(rows))
    for method in ("rtn", "gptq"):
      few, mixed, many = (rows[name, method]
                          for name in ("pot2", "mixed3.5", "twohot4"))
      self.assertLess(few["bits_per_weight"], mixed["bits_per_weight"])
      self.assertLessEqual(mixed["bits_per_weight"], 3.5)
      self.assertGreater(few["mean_kl_nats"], mixed["mean_kl_nats"])
      self.assertGreater(mixed["mean_kl_nats"], many["mean_kl_nats"])
      self.assertEqual({}, few["format_shares"])
      self.assertGreaterEqual(len(mixed["format_shares"]), 2)
      self.assertLessEqual(set(mixed["format_shares"]),
                           {"pot2", "pot3", "twohot4"})
      self.assertAlmostEqual(1, sum(mixed["format_shares"].values()))
      self.assertRegex((out / "report.md").read_text(),
                       rf"mixed3\.5 g64 {method} is \d+\.\d % pot")
    # Rows that look at no calibration text are of use with any.
    result = report("pot2", "--calibration", self.text)
    self.assert_fails(result, 2, "pot2-g64-gptq.json was measured with another "
                      "calibration")
    (out / "rows/pot2-g64-gptq.json").unlink()
    result = report("pot2", "--calibration", self.text)
    self.assertEqual(0, result.returncode, result.stderr)
    self.assertIn("2 rows were in", result.stderr)
    (out / "rows/pot2-g64-gptq.json").unlink()
    # What the model has no room for fails alone.
    (out / "report.md").unlink()
    result = report("pot2,mixed1.5")
    self.assertEqual(2, result.returncode, result.stderr)
    for method in ("rtn", "gptq"):
      self.assertRegex(result.stderr, f"mixed1.5 g64 {method} failed: .*"
                       r"--bits-budget must be at least 2\.\d+ .*, not 1\.5")
    table = (out / "report.md").read_text()
    self.assertIn("pot2", table)
    self.assertNotIn("mixed1.5", table)


if __name__ == "__main__":
  trainer_testing.main()
