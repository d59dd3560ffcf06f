"""Reads the stored event file with TensorBoard's own reader and checks every value.

Needs `pip install tensorboard`; run as `python tests/golden/metrics/check.py [FOLDER]`. The Rust test then only
compares bytes with the file checked here.
"""

import csv
import math
import pathlib
import sys

from tensorboard.backend.event_processing import event_file_loader
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

here = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent

# Raw records: framing and checksums (the loader raises on a wrong one).
(path,) = here.glob("events.out.tfevents.*")
events = list(event_file_loader.RawEventFileLoader(str(path)).Load())
assert len(events) == 6, len(events)

run = EventAccumulator(str(here), size_guidance={"scalars": 0, "tensors": 0, "images": 0})
run.Reload()
assert run.file_version == 2.0, run.file_version
assert run.FirstEventTimestamp() == 1_700_000_000.5

tags = run.Tags()
assert sorted(tags["scalars"]) == ["odd", 'train/loss, "total"', "train/return"], tags
for tag, value in (("train/return", lambda s: s / 7), ('train/loss, "total"', lambda s: -7 / s)):
    found = [(e.step, e.value) for e in run.Scalars(tag)]
    assert [s for s, _ in found] == [10, 20, 30]
    assert all(math.isclose(v, value(s), rel_tol=1e-6) for s, v in found), found
assert math.isnan(run.Scalars("odd")[0].value)

(image,) = run.Images("latent")
assert (image.step, image.width, image.height) == (20, 2, 1)
assert image.encoded_image_string.startswith(b"\x89PNG\r\n")

rows = list(csv.DictReader(open(here / "metrics.csv")))
assert [r["step"] for r in rows] == ["10", "10", "20", "20", "30", "30", "30"]
assert float(rows[0]["value"]) == 10 / 7
print("TensorBoard reads", len(events), "events as they were written")
