"""Makes the small HDF5 files in this folder, as h5py and D4RL write them. Needs numpy and h5py.

Every file holds the same three sequences of 12, 7 and 14 steps (observations of 4, actions of 2) unless its name says
otherwise; value = row + column / 8, so a reader can be checked without the arrays.
"""

import os

import h5py
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
LENGTHS = [12, 7, 14]
N = sum(LENGTHS)
ENDS = np.cumsum(LENGTHS) - 1
ROWS = np.arange(N)[:, None]
OBSERVATIONS = (ROWS + np.arange(4) / 8).astype(np.float32)
ACTIONS = (-ROWS / 64 + np.arange(2) / 8).astype(np.float32)
REWARDS = (np.arange(N) % 3).astype(np.float32)
FLAGS = np.zeros(N, dtype=bool)
FLAGS[ENDS] = True


def create(name):
    return h5py.File(os.path.join(HERE, name + ".hdf5"), "w", libver=("earliest", "v110"))


def arrays(group, gzip=False, **replaced):
    """Writes the usual arrays; `name=None` leaves one out."""
    content = dict(observations=OBSERVATIONS, actions=ACTIONS, rewards=REWARDS, terminals=FLAGS)
    content.update(replaced)
    for name, values in content.items():
        if values is not None:
            group.create_dataset(name, data=values, **(dict(compression="gzip") if gzip else {}))


with create("terminals_only") as f:
    # D4RL's kitchen file: gzip, float32, boolean terminals, demonstration number in `infos`.
    arrays(f, gzip=True, infos=np.repeat(np.arange(3), LENGTHS))
    f.attrs["scene"] = "kitchen"
    f.attrs["elements"] = ["microwave", "kettle"]
    f.attrs["seed"] = 7

with create("timeouts_only") as f:
    # D4RL's locomotion files: contiguous, a float terminal array without an end, timeouts, infos as a group.
    arrays(f, terminals=np.zeros(N, np.float32), timeouts=FLAGS)
    infos = f.create_group("infos")
    infos["qpos"] = OBSERVATIONS[:, :3].astype(np.float64)
    infos["qvel"] = ACTIONS
    infos["count"] = np.arange(N, dtype=np.int32)
    infos["text"] = np.array([b"x"] * N)
    infos["short"] = np.zeros(3)

with create("f64_column_rewards") as f:
    # Double precision, big-endian, rewards and terminals as columns, terminals as integers.
    arrays(
        f,
        gzip=True,
        observations=OBSERVATIONS.astype(">f8"),
        actions=ACTIONS.astype(np.float64),
        rewards=REWARDS[:, None].astype(np.float64),
        terminals=FLAGS[:, None].astype(np.uint8),
    )

with create("float16_tail") as f:
    # Half precision, and the last sequence is broken off.
    broken = FLAGS.copy()
    broken[-1] = False
    arrays(f, observations=OBSERVATIONS.astype(np.float16), terminals=broken)

with create("virtual_chunks") as f:
    # D4RL's chunked layout; more than ten chunks would show an order by text.
    cuts = [0, 5, 19] + list(range(20, 29)) + [N]
    for number, (start, end) in enumerate(zip(cuts, cuts[1:])):
        rows = slice(start, end)
        arrays(
            f.create_group(f"virtual/{number}"),
            observations=OBSERVATIONS[rows],
            actions=ACTIONS[rows],
            rewards=REWARDS[rows],
            terminals=FLAGS[rows],
        )

# What must be refused, one reason each.
with create("bad_nan") as f:
    values = OBSERVATIONS.copy()
    values[9, 2], values[20, 1] = np.nan, np.inf
    arrays(f, observations=values)
with create("bad_rows") as f:
    arrays(f, actions=ACTIONS[:-1])
with create("bad_rank") as f:
    arrays(f, observations=np.zeros((N, 2, 2), np.float32))
with create("bad_rewards") as f:
    arrays(f, rewards=np.zeros((N, 2), np.float32))
with create("bad_missing") as f:
    arrays(f, observations=None, observation=OBSERVATIONS)
with create("bad_no_ends") as f:
    arrays(f, terminals=None, terminal=FLAGS)
with create("bad_text") as f:
    arrays(f, actions=np.array([[b"a", b"b"]] * N))
with create("bad_claim_chunked") as f:
    arrays(f, observations=None)
    f.create_dataset("observations", shape=(2**40, 4), dtype="f4", chunks=(1024, 4), compression="gzip")
with create("bad_claim_contiguous") as f:
    arrays(f, observations=None)
    f.create_dataset("observations", shape=(2**40, 4), dtype="f4")
with create("bad_claim_overflow") as f:
    arrays(f, observations=None)
    f.create_dataset("observations", shape=(2**62, 16), dtype="f4", chunks=(1024, 16))
with create("bad_chunk") as f:
    arrays(f, observations=None)
    f.create_dataset("observations", shape=(N, 4), maxshape=(None, 4), dtype="f4", chunks=(2**27, 4))
with create("bad_external_link") as f:
    arrays(f, observations=None)
    f["observations"] = h5py.ExternalLink("terminals_only.hdf5", "/observations")
with create("bad_external_soft_link") as f:
    arrays(f, observations=None)
    f["other"] = h5py.ExternalLink("terminals_only.hdf5", "/")
    f["observations"] = h5py.SoftLink("/other/observations")
with create("bad_external_storage") as f:
    arrays(f, observations=None)
    f.create_dataset("observations", (N, 4), "f4", external=[("outside.bin", 0, N * 16)])
with create("bad_virtual_dataset") as f:
    arrays(f, observations=None)
    layout = h5py.VirtualLayout(shape=OBSERVATIONS.shape, dtype=np.float32)
    layout[:] = h5py.VirtualSource("terminals_only.hdf5", "observations", shape=OBSERVATIONS.shape)
    f.create_virtual_dataset("observations", layout)
with create("bad_lzf") as f:
    arrays(f, observations=None)
    f.create_dataset("observations", data=OBSERVATIONS, compression="lzf")
with create("bad_empty") as f:
    arrays(f, **{name: values[:0] for name, values in dict(
        observations=OBSERVATIONS, actions=ACTIONS, rewards=REWARDS, terminals=FLAGS).items()})
with create("bad_minari") as f:
    f["episode_0/observations"] = OBSERVATIONS
