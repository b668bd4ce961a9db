"""Runs the built program among processes that die and a store that fails, then proves that nothing is lost or doubled.

    soak.py kill [--rounds 200] [--seed N] [--kafka embedded|real|both]
    soak.py share [--minutes 5] [--seed N] [--membership static|dynamic]
    soak.py join [--seed N]

Needs tests/python/requirements.txt, Go for the S3 server (`kill`) and Java with Maven for a real Kafka. Everything
listens on free ports of the loopback. The seed fixes what is drawn, not how the processes' steps fall together.
Prints a line for each round and a summary (`--json`: as JSON on stdout); exits 1 when something differs, and then keeps
the folder with all logs, topics and tables. Ctrl-C ends all that was started.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import join
import kill
import share
from processes import ROOT, Process

SCENARIOS = {"kill": kill, "share": share, "join": join}


class Report:
    """Lines as it goes, and what there is to say at the end."""

    def __init__(self, scenario, seed):
        self.began = time.monotonic()
        self.summary = {"scenario": scenario, "seed": seed, "parts": {}, "findings": []}

    def line(self, text):
        print(f"{time.monotonic() - self.began:8.1f} s  {text}", file=sys.stderr, flush=True)

    def finding(self, text):
        self.summary["findings"].append(text)
        self.line(f"FINDING {text}")

    def part(self, name, figures):
        self.summary["parts"].setdefault(name, {}).update(figures)


def built_program():
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    found = [path for path in (target / "release/smartcity", target / "debug/smartcity") if path.exists()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    scenarios = parser.add_subparsers(dest="scenario", required=True)
    for name, module in SCENARIOS.items():
        scenario = scenarios.add_parser(name, description=module.__doc__)
        scenario.add_argument("--seed", type=int, default=1)
        scenario.add_argument("--program", type=Path, default=built_program(), help="the smartcity binary")
        scenario.add_argument("--keep", type=Path, metavar="DIR", help="a new folder for everything, kept in any case")
        scenario.add_argument("--json", action="store_true", help="print the summary as JSON")
    scenarios.choices["kill"].add_argument("--rounds", type=int, default=200)
    scenarios.choices["kill"].add_argument("--kafka", choices=["embedded", "real", "both"], default="both")
    scenarios.choices["share"].add_argument("--minutes", type=float, default=5)
    scenarios.choices["share"].add_argument("--membership", choices=["static", "dynamic"], default="static")
    options = parser.parse_args()
    if options.program is None or not options.program.exists():
        parser.error("there is no smartcity binary: build one, or name it with --program")
    return options


def end(*_):
    raise KeyboardInterrupt


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, end)
    if options.keep:
        options.keep.mkdir(parents=True)
    work = (options.keep or Path(tempfile.mkdtemp(prefix="smartcity-soak-"))).resolve()
    # A copy: whoever builds meanwhile must not change what is tested.
    program = shutil.copy2(options.program, work / "smartcity")
    report = Report(options.scenario, options.seed)
    report.line(f"{options.scenario}, seed {options.seed}, in {work}")
    code = 1
    try:
        SCENARIOS[options.scenario].run(options, work, program, report)
        code = 1 if report.summary["findings"] else 0
    except KeyboardInterrupt:
        report.line("interrupted")
        code = 130
    finally:
        Process.end_all()
        report.summary["seconds"] = round(time.monotonic() - report.began, 1)
        (work / "summary.json").write_text(json.dumps(report.summary, indent=1))
        tell(report, options.json)
        (work / "smartcity").unlink()
        if code == 0 and not options.keep:
            shutil.rmtree(work)
        else:
            report.line(f"everything is in {work}")
    return code


def tell(report, as_json):
    summary = report.summary
    if as_json:
        print(json.dumps(summary), flush=True)
        return
    for name, part in summary["parts"].items():
        print(f"{name}:")
        for figure, value in part.items():
            print(f"  {figure}: {value}")
    print(f"{len(summary['findings'])} findings in {summary['seconds']} s", flush=True)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
