"""Makes the small Minari datasets in `minari/`, by Minari itself. Needs minari[hdf5].

Every dataset holds the three episodes of `make.py`: rows of 12, 7 and 14 steps, value = row + column / 8. The observation
after the last step of an episode is that of its last row plus 0.5.
"""

import os
import shutil
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
os.environ["MINARI_DATASETS_PATH"] = os.path.join(HERE, "minari")

import minari  # noqa: E402
import numpy as np  # noqa: E402
from gymnasium import spaces  # noqa: E402
from minari.data_collector import EpisodeBuffer  # noqa: E402

warnings.filterwarnings("ignore")
LENGTHS = [12, 7, 14]
shutil.rmtree(os.environ["MINARI_DATASETS_PATH"], ignore_errors=True)


def box(shape, dtype=np.float64, low=-np.inf, high=np.inf):
    return spaces.Box(low, high, shape, dtype)


def buffers(observe, infos=lambda rows: None):
    start = 0
    for number, steps in enumerate(LENGTHS):
        rows = np.arange(start, start + steps)
        seen = np.append(rows, rows[-1] + 0.5)[:, None] + np.arange(4) / 8
        ends = np.arange(steps) == steps - 1
        yield EpisodeBuffer(
            id=number,
            seed=100 + number,
            observations=observe(seen),
            actions=(-rows[:, None] / 64 + np.arange(2) / 8).astype(np.float32),
            rewards=(rows % 3).astype(np.float64),
            terminations=ends & (number != 1),
            truncations=ends & (number == 1),
            infos=infos(rows),
        )
        start += steps


def create(name, observe, space, infos=lambda rows: None):
    dataset = minari.create_dataset_from_buffers(
        name,
        list(buffers(observe, infos)),
        observation_space=space,
        action_space=box((2,), np.float32, -1.0, 1.0),
        author={"A", "B"},
    )
    dataset.storage.update_metadata({"ref_max_score": 4.0})


create("plain-v3", lambda seen: seen, box((4,)))


def pixels(seen):
    return (np.arange(6 * 5 * 3).reshape(6, 5, 3) + 7 * seen[:, 0].astype(int)[:, None, None, None]).astype(np.uint8)


# As Gymnasium-Robotics has it, with pictures and side arrays of T + 1 rows.
create(
    "goals/dict-v0",
    lambda seen: {
        "observation": seen,
        "achieved_goal": seen[:, :2],
        "desired_goal": {"kettle": seen[:, :1] * 0},
        "pixels": pixels(seen),
    },
    spaces.Dict(
        observation=box((4,)),
        achieved_goal=box((2,)),
        desired_goal=spaces.Dict(kettle=box((1,))),
        pixels=box((6, 5, 3), np.uint8, 0, 255),
    ),
    lambda rows: {"count": np.append(rows, rows[-1] + 1), "nested": {"text": ["x"] * (len(rows) + 1)}},
)
for folder, _, files in os.walk(os.environ["MINARI_DATASETS_PATH"]):
    if "namespace_metadata.json" in files:
        os.remove(os.path.join(folder, "namespace_metadata.json"))
