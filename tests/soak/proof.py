"""What must hold at the end of every soak, whatever happened before."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

from processes import run

# A fenced static member must stop (KIP-345). Seen after a real Kafka was killed right after one had been replaced: it seems
# to come back with the one before.
LEFT_TO_SUPERVISOR = ["FencedInstanceId"]
CAUGHT_UP_S = 900


def behind(ingests, feed):
    """Partitions whose landed offset, as the processes tell, is below what was acknowledged."""
    landed = {}
    for ingest in ingests:
        for stream in ingest.progress() or []:
            for topic, offsets in stream["sources"][0]["endOffset"].items():
                for partition, offset in offsets.items():
                    at = (topic, int(partition))
                    landed[at] = max(landed.get(at, 0), offset)
    wanted = {at: max(offsets) + 1 for at, offsets in feed.ledger.items()}
    return {f"{topic}[{partition}]": (landed.get((topic, partition)), end)
            for (topic, partition), end in wanted.items() if landed.get((topic, partition), 0) < end}


def ends(part, ingests, report):
    """Ingest may refuse to start while Kafka or the store is away; once it reads, it must go on by itself."""
    refused = Counter()
    for ingest in ingests:
        for end in ingest.ends:
            is_left = any(reason in end["error"] for reason in LEFT_TO_SUPERVISOR)
            if end["panicked"] or (end["was_reading"] and not is_left):
                report.finding(f"{part}: {end['process']} ended by itself with {end['code']}: {end['error']}")
            else:
                refused[kind_of(end["error"])] += 1
    starts = {ingest.name: ingest.starts for ingest in ingests}
    report.part(part, {"ended_by_themselves": dict(refused), "starts": starts})


def kind_of(error):
    """An error without its causes, and without what differs from one time to the next."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{3,}", "N", error.split(" caused by: ")[0])[:120]


def prove(part, program, work, bootstrap, lake, variables, feed, report):
    """Lands the rest, then `lake verify` and the independent reader."""
    where = ["--bootstrap-servers", bootstrap, "--lake", lake]
    code, out, errors = run([program, "ingest", "--until-caught-up", "--json", *where], variables, CAUGHT_UP_S)
    (work / "caught-up.log").write_text(out + errors)
    if code != 0:
        report.finding(f"{part}: `ingest --until-caught-up` ended with {code}: {errors[-500:]}")
        return
    code, out, errors = run([program, "lake", "verify", "--against-kafka", "--json", *where], variables)
    (work / "verify.json").write_text(out)
    verdict = json.loads(out) if out else {"faulty_tables": None, "doubtful_tables": None, "tables": []}
    if code != 0 or verdict["faulty_tables"] != 0 or verdict["doubtful_tables"] != 0:
        report.finding(f"{part}: `lake verify` ended with {code}: {errors[-500:]} See {work / 'verify.json'}")
    compared = sum(place.get("compared") or 0 for table in verdict["tables"] for place in table["partitions"])
    ledger = work / "ledger.json"
    feed.write_ledger(ledger)
    reader = [sys.executable, Path(__file__).with_name("reader.py"), bootstrap, lake, ledger]
    code, out, errors = run(reader, variables)
    (work / "reader.json").write_text(out + errors)
    told = json.loads(out) if out else {}
    if code != 0 or told.get("differences") != {}:
        report.finding(f"{part}: the independent reader: {told.get('differences')} {errors[-500:]} "
                       f"See {work / 'reader.json'}")
    report.part(part, {"verify_compared": compared, "reader": {
        "acknowledged": told.get("acknowledged"), "letters": told.get("letters"), "differences": told.get("differences"),
        "records": sum(table["records"] for table in told.get("tables", {}).values()),
        "rows": sum(table["rows"] for table in told.get("tables", {}).values()),
    }})
    report.line(f"{part}: verify compared {compared:,} records; the reader {out[:200]}")
