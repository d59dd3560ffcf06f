#!/usr/bin/env python3
"""Apprentice beside its peers on the same machine, in one run, as ratios.

    python3 -m venv .deps/peers && .deps/peers/bin/pip install -r benches/requirements.txt
    make build
    .deps/peers/bin/python benches/peers.py                 # everything, about ten minutes
    .deps/peers/bin/python benches/peers.py simulation --threads 1,2

Sides take turns, `--rounds` times; each number is the median of its rounds. All sides may use the same cores
(`taskset`) and are told the same number of threads. Peers: PyTorch eager (skill-model steps and SAC updates of the
kitchen's published sizes), EnvPool and Gymnasium's vector environments (FrankaKitchen-v1), MuJoCo's own threaded
`rollout`, and bare `mj_step` loops inside `apprentice bench`.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STATE, ACTION, SKILL, LENGTH, WIDTH = 60, 9, 10, 10, 128


# ---------------------------------------------------------------------------------------------------------------------
# Learning: PyTorch eager
# ---------------------------------------------------------------------------------------------------------------------


def torch_networks():
    import torch
    from torch import nn

    def perceptron(inputs, width, outputs, hidden, norm):
        layers = [nn.Linear(inputs, width), nn.LeakyReLU(0.2)]
        for _ in range(hidden):
            layers.append(nn.Linear(width, width, bias=not norm))
            if norm:
                layers.append(nn.BatchNorm1d(width))
            layers.append(nn.LeakyReLU(0.2))
        return nn.Sequential(*layers, nn.Linear(width, outputs))

    def gaussian(raw):
        mean, log_sigma = raw.chunk(2, dim=-1)
        return mean, log_sigma.clamp(-10, 2)

    return torch, nn, perceptron, gaussian


def torch_skill_model(closed_loop):
    """One training step at batch 128."""
    torch, nn, perceptron, gaussian = torch_networks()
    encoder = nn.LSTM(ACTION + STATE if closed_loop else ACTION, WIDTH, batch_first=True)
    head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * SKILL)
    prior = perceptron(STATE, WIDTH, 2 * SKILL, 6, True)
    if closed_loop:
        decoder = [perceptron(STATE + SKILL, WIDTH, ACTION, 5, True)]
    else:
        decoder = [nn.LSTMCell(ACTION + SKILL, WIDTH), nn.Linear(WIDTH, ACTION)]
    modules = nn.ModuleList([encoder, *head, prior, *decoder])
    start = torch.zeros(ACTION, requires_grad=True)
    optimiser = torch.optim.RAdam([*modules.parameters(), start], lr=1e-3)
    states, actions = torch.randn(128, LENGTH + 1, STATE), torch.randn(128, LENGTH, ACTION)

    def step():
        seen = torch.cat([actions, states[:, :LENGTH]], 2) if closed_loop else actions
        mean, log_sigma = gaussian(head[1](head[0](encoder(seen)[0][:, -1])))
        z = mean + log_sigma.exp() * torch.randn_like(mean)
        if closed_loop:
            rows = torch.cat([states[:, :LENGTH], z[:, None].expand(-1, LENGTH, -1)], 2)
            decoded = decoder[0](rows.reshape(-1, STATE + SKILL)).view(128, LENGTH, ACTION)
        else:
            hidden = (torch.zeros(128, WIDTH), torch.zeros(128, WIDTH))
            out, outs = start.expand(128, -1), []
            for _ in range(LENGTH):
                hidden = decoder[0](torch.cat([out, z], 1), hidden)
                out = decoder[1](hidden[0])
                outs.append(out)
            decoded = torch.stack(outs, 1)
        p_mean, p_log_sigma = gaussian(prior(states[:, 0]))
        reconstruction = 0.5 * (decoded - actions).square().mean()
        divergence = (0.5 * (mean.square() + (2 * log_sigma).exp() - 1) - log_sigma).mean()
        likelihood = 0.5 * ((z.detach() - p_mean) / p_log_sigma.exp()).square() + p_log_sigma
        loss = reconstruction + 5e-4 * divergence + likelihood.sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def torch_sac():
    """One prior-regularised SAC update at batch 256, in the order of the published code."""
    torch, _, perceptron, gaussian = torch_networks()
    functional = torch.nn.functional
    policy, prior = perceptron(STATE, WIDTH, 2 * SKILL, 6, True), perceptron(STATE, WIDTH, 2 * SKILL, 6, True)
    policy.eval(), prior.eval()
    critics = [perceptron(STATE + SKILL, 256, 1, 5, False) for _ in range(2)]
    targets = [perceptron(STATE + SKILL, 256, 1, 5, False) for _ in range(2)]
    log_alpha = torch.zeros((), requires_grad=True)
    adam = lambda parameters: torch.optim.Adam(parameters, lr=3e-4)
    policy_optimiser, alpha_optimiser = adam(policy.parameters()), adam([log_alpha])
    critic_optimisers = [adam(critic.parameters()) for critic in critics]
    data = torch.randn(10_000, 2 * STATE + SKILL + 1)

    def act(state):
        mean, log_sigma = gaussian(policy(state))
        with torch.no_grad():
            p_mean, p_log_sigma = gaussian(prior(state))
        sample = mean + log_sigma.exp() * torch.randn_like(mean)
        x = mean + log_sigma.exp() * torch.randn(10, *mean.shape)
        log_ratio = (
            0.5 * ((x - p_mean) / p_log_sigma.exp()).square()
            + p_log_sigma
            - 0.5 * ((x - mean) / log_sigma.exp()).square()
            - log_sigma
        )
        divergence = log_ratio.mean(0).sum(-1).clamp(-100, 100)
        return 2 * torch.tanh(sample), divergence

    def step():
        rows = data[torch.randint(len(data), (256,))]
        state, following, action, reward = rows.split([STATE, STATE, SKILL, 1], 1)
        skill, divergence = act(state)
        alpha_loss = (log_alpha.exp() * (5 - divergence).detach()).mean()
        alpha_optimiser.zero_grad(), alpha_loss.backward(), alpha_optimiser.step()
        alpha = log_alpha.exp().detach()
        q = torch.min(*[critic(torch.cat([state, skill], 1)) for critic in critics])
        policy_loss = (alpha * divergence - q[:, 0]).mean()
        with torch.no_grad():
            next_skill, next_divergence = act(following)
            next_input = torch.cat([following, next_skill], 1)
            value = torch.min(*[target(next_input) for target in targets])[:, 0] - alpha * next_divergence
            goal = reward[:, 0] + 0.99 * value
        losses = [
            0.5 * functional.mse_loss(critic(torch.cat([state, action], 1))[:, 0], goal) for critic in critics
        ]
        policy_optimiser.zero_grad(), policy_loss.backward(), policy_optimiser.step()
        for loss, optimiser in zip(losses, critic_optimisers):
            optimiser.zero_grad(), loss.backward(), optimiser.step()
        with torch.no_grad():
            for target, critic in zip(targets, critics):
                for slow, fast in zip(target.parameters(), critic.parameters()):
                    slow.lerp_(fast, 0.005)

    return step


def learning_peer(threads, seconds):
    import torch

    torch.set_num_threads(threads)
    steps = {
        "closed-loop skill model": torch_skill_model(True),
        "open-loop skill model": torch_skill_model(False),
        "SAC in skill space": torch_sac(),
    }
    return {name: rate(step, 1, seconds) for name, step in steps.items()}


# ---------------------------------------------------------------------------------------------------------------------
# Simulation: EnvPool, Gymnasium, MuJoCo's rollout
# ---------------------------------------------------------------------------------------------------------------------


def simulation_peer(name, environments, threads, seconds):
    import numpy

    random = numpy.random.default_rng(0)
    actions = random.uniform(-1, 1, (64, environments, ACTION))
    turn = iter(range(10**9))
    if name == "EnvPool sync":
        import envpool

        pool = envpool.make_gymnasium("FrankaKitchen-v1", num_envs=environments, num_threads=threads)
        pool.reset()
        return {name: rate(lambda: pool.step(actions[next(turn) % 64]), environments, seconds)}
    if name == "EnvPool async":
        import envpool

        batch = max(1, environments // 2)
        pool = envpool.make_gymnasium(
            "FrankaKitchen-v1", num_envs=environments, batch_size=batch, num_threads=threads
        )
        pool.async_reset()

        def step():
            info = pool.recv()[-1]
            pool.send(actions[next(turn) % 64, :batch], info["env_id"])

        return {name: rate(step, batch, seconds)}
    if name.startswith("Gymnasium"):
        import gymnasium
        import gymnasium_robotics

        gymnasium.register_envs(gymnasium_robotics)
        make = [lambda: gymnasium.make("FrankaKitchen-v1")] * environments
        vector = gymnasium.vector
        pool = vector.AsyncVectorEnv(make) if "async" in name else vector.SyncVectorEnv(make)
        pool.reset()
        result = {name: rate(lambda: pool.step(actions[next(turn) % 64]), environments, seconds)}
        pool.close()
        return result
    import mujoco
    from mujoco import rollout

    model = mujoco.MjModel.from_xml_path(
        os.path.join(ROOT, ".deps/models/kitchen_franka/kitchen_assets/kitchen_env_model.xml")
    )
    data = mujoco.MjData(model)
    full = mujoco.mjtState.mjSTATE_FULLPHYSICS
    state = numpy.zeros(mujoco.mj_stateSize(model, full))
    mujoco.mj_getState(model, data, state, full)
    states = numpy.tile(state, (environments, 1))
    data = [mujoco.MjData(model) for _ in range(threads)]
    controls = numpy.zeros((environments, 40, model.nu))

    with rollout.Rollout(nthread=threads if threads > 1 else 0) as roll:

        def step():
            controls[:] = actions[next(turn) % 64, :, None, : model.nu] * 0.5
            states[:] = roll.rollout(model, data, states, controls)[0][:, -1]

        return {name: rate(step, environments, seconds)}


SIMULATION_PEERS = [
    "EnvPool sync",
    "EnvPool async",
    "Gymnasium sync vector",
    "Gymnasium async vector",
    "MuJoCo rollout",
]


# ---------------------------------------------------------------------------------------------------------------------
# Taking turns
# ---------------------------------------------------------------------------------------------------------------------


def rate(work, units, seconds):
    """Units of work per second."""
    for _ in range(5):
        work()
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        calls += 1
    return units * calls / (time.perf_counter() - start)


def run(command, threads):
    cores = ",".join(map(str, range(threads)))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(
        ["taskset", "-c", cores, *command], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1] if "--peer" in command else done.stdout)


def ours(arguments, parts, threads):
    command = [arguments.program, "--threads", str(threads), "bench", "--json", "--seconds", str(arguments.seconds)]
    report = run([*command, "--environments", str(arguments.environments), *parts], threads)
    return {result["name"]: result["value"] for result in report["results"]}, report["processor"]


def peer(arguments, name, threads):
    command = [sys.executable, os.path.abspath(__file__), "--peer", name, "--threads", str(threads)]
    return run([*command, "--seconds", str(arguments.seconds), "--environments", str(arguments.environments)], threads)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="simulation, learning [default: both]")
    parser.add_argument("--program", default=os.path.join(ROOT, "target/debug/apprentice"))
    parser.add_argument("--threads", default="1,2", help="numbers of threads (and cores), default 1,2")
    parser.add_argument("--environments", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        threads = int(arguments.threads)
        if arguments.peer == "learning":
            result = learning_peer(threads, arguments.seconds)
        else:
            result = simulation_peer(arguments.peer, arguments.environments, threads, arguments.seconds)
        print(json.dumps(result))
        return
    parts = arguments.parts or ["simulation", "learning"]
    rows, processor = [], platform.processor()
    for threads in map(int, arguments.threads.split(",")):
        mine, theirs = {}, {}
        for _ in range(arguments.rounds):
            if "simulation" in parts:
                for name in SIMULATION_PEERS:
                    collect(theirs, peer(arguments, name, threads))
                values, processor = ours(arguments, ["simulation"], threads)
                collect(mine, values)
            # One learner uses one thread; PyTorch may use as many as it likes.
            if "learning" in parts:
                collect(theirs, peer(arguments, "learning", threads))
                values, processor = ours(arguments, ["learning"], threads)
                collect(mine, values)
        mine, theirs = ({name: statistics.median(values) for name, values in side.items()} for side in (mine, theirs))
        kitchens = f", {arguments.environments} kitchens"
        for name, value in theirs.items():
            own = "simulation" + kitchens if name in SIMULATION_PEERS else name
            rows.append((threads, own.replace(kitchens, ""), name, mine[own], value))
        if "simulation" in parts:
            bare = mine["bare mj_step" + kitchens]
            rows.append((threads, "simulation", "bare mj_step", mine["simulation" + kitchens], bare))
    print(f"{datetime.date.today()}, {processor}, {arguments.environments} kitchens, median of {arguments.rounds}\n")
    print("| threads | what | peer | Apprentice, 1/s | peer, 1/s | ratio |\n|---|---|---|---|---|---|")
    for threads, what, name, own, other in rows:
        name = "PyTorch eager" if name == what else name
        print(f"| {threads} | {what} | {name} | {own:.1f} | {other:.1f} | {own / other:.2f} |")


def collect(into, values):
    for name, value in values.items():
        into.setdefault(name, []).append(value)


if __name__ == "__main__":
    main()
