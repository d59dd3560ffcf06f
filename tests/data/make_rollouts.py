"""Makes the folder `rollouts` here, as h5py and SPiRL write roll-outs. Needs numpy and h5py.

Three trajectories of 12, 7 and 14 rows, numbered in the order of their files' paths. State = 100 * trajectory + row +
column / 8, action = -row / 64 + column / 8, byte of a picture = (number + 7 * row + 5 * y + 3 * x + channel) mod 256,
so a reader can be checked without the arrays. The last row of each is masked out, as the original does.
"""

import os

import h5py
import numpy as np

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rollouts")
HEIGHT, WIDTH = 6, 5


def trajectory(group, number, rows):
    row = np.arange(rows)[:, None]
    group["states"] = 100.0 * number + row + np.arange(4) / 8
    group["actions"] = (-row / 64 + np.arange(2) / 8).astype(np.float32)
    mask = np.ones(rows)
    mask[-1] = 0
    group["pad_mask"] = mask
    t, y, x, c = np.ogrid[:rows, :HEIGHT, :WIDTH, :3]
    images = ((number + 7 * t + 5 * y + 3 * x + c) % 256).astype(np.uint8)
    group.create_dataset("images", data=images, compression="gzip")


def rollout(path, trajectories):
    path = os.path.join(HERE, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with h5py.File(path, "w", libver=("earliest", "v110")) as f:
        f["traj_per_file"] = len(trajectories)
        for place, (number, rows) in enumerate(trajectories):
            trajectory(f.create_group(f"traj{place}"), number, rows)


rollout("a/deep/rollout_7.h5", [(0, 12), (1, 7)])
rollout("b/rollout_0.h5", [(2, 14)])
