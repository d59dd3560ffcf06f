#!/usr/bin/env python3
"""Apprentice beside its peers on the same machine, in one run, as ratios.

    python3 -m venv .deps/peers && .deps/peers/bin/pip install -r benches/requirements.txt
    make build
    .deps/peers/bin/python benches/peers.py                        # everything, about fifteen minutes
    .deps/peers/bin/python benches/peers.py simulation --threads 2 --json numbers.json
    .deps/peers/bin/python benches/peers.py --only "EnvPool sync"  # one peer alone, with its whole error message

Prints a table in Markdown. Sides take turns, `--rounds` times, each in a process of its own on the same cores (the
first `--threads` of those that are allowed); each number is the median of its rounds. A peer that fails is reported in
its row and does not stop the others.

Simulation. All sides move the Franka kitchen (FrankaKitchen-v1: 40 physics steps a control step) by the same formula,
`actions` below, without observation noise, and start anew every 280 control steps. What is not the same:

- EnvPool and Gymnasium spend a call of its own on a new episode; it counts as a step, one in 281.
- EnvPool 1.2.5 brings its own MuJoCo, 3.6.0; all others use 3.17.0.
- gymnasium-robotics 1.4.2 does not run with this MuJoCo: reading the robot's joints by name fails. Its function for it
  is replaced by one that copies them, which also makes these peers faster than they would be.
- MuJoCo's `rollout` only does physics, no observations and rewards. Each call, here one control step, begins without
  warm start of the solver.
- The bare `mj_step` loops are a part of `apprentice bench`.
- With `--scene kitchen_fast` things at rest sleep on our side, the bare loops included.

Learning. PyTorch eager with networks, batches and losses of the kitchen's published sizes. Skill models use all
threads on both sides. A learner of Apprentice uses one thread, so SAC is compared with one thread, and else as many
learners side by side as there are threads. "Published order" computes all three losses before the first step, with
gradients that nobody uses, and optimisers as PyTorch makes them by default, as the original code does; the other row
does better in both.
"""

import argparse
import datetime
import importlib.metadata
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
import typing

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STATE, ACTION, SKILL, LENGTH, WIDTH = 60, 9, 10, 10, 128
# Control steps of an episode.
EPISODE = 280
# Load average above which numbers are not worth much.
QUIET = 0.5


def rate(work, units, seconds):
    """Units of work per second."""
    for _ in range(5):
        work()
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        calls += 1
    return units * calls / (time.perf_counter() - start)


# ---------------------------------------------------------------------------------------------------------------------
# Simulation: EnvPool, Gymnasium, MuJoCo's rollout
# ---------------------------------------------------------------------------------------------------------------------


def actions(environments):
    """Actions of an episode [EPISODE + 1, environments, ACTION], as in src/bench/simulation.rs. The last row is for the
    call that begins the next episode, which ignores it."""
    import numpy

    step = numpy.arange(EPISODE + 1)[:, None, None]
    environment = numpy.arange(environments)[None, :, None]
    return numpy.sin(0.7 * step + 1.3 * environment + numpy.arange(ACTION))


def envpool_kitchens(environments, threads, batch):
    import envpool

    return envpool.make_gymnasium(
        "FrankaKitchen-v1",
        num_envs=environments,
        batch_size=batch,
        num_threads=threads,
        robot_noise_ratio=0.0,
        object_noise_ratio=0.0,
    )


def envpool_sync(environments, threads, seconds):
    pool = envpool_kitchens(environments, threads, environments)
    pool.reset()
    turns = itertools.cycle(actions(environments))
    return rate(lambda: pool.step(next(turns)), environments, seconds)


def envpool_async(environments, threads, seconds):
    import numpy

    batch = environments // 2
    pool = envpool_kitchens(environments, threads, batch)
    table, calls = actions(environments), numpy.zeros(environments, int)
    pool.async_reset()

    def step():
        ids = pool.recv()[-1]["env_id"]
        pool.send(table[calls[ids] % len(table), ids], ids)
        calls[ids] += 1

    return rate(step, batch, seconds)


def gymnasium_kitchen():
    # Everything happens in here, because worker processes may get nothing but this function.
    import gymnasium
    import gymnasium_robotics
    from gymnasium_robotics.envs.franka_kitchen import franka_env

    gymnasium.register_envs(gymnasium_robotics)
    franka_env.robot_get_obs = lambda model, data, names: (data.qpos[:ACTION].copy(), data.qvel[:ACTION].copy())
    return gymnasium.make(
        "FrankaKitchen-v1", disable_env_checker=True, robot_noise_ratio=0.0, object_noise_ratio=0.0
    )


def gymnasium_vector(kind):
    def measure(environments, threads, seconds):
        import gymnasium

        pool = getattr(gymnasium.vector, kind)([gymnasium_kitchen] * environments)
        pool.reset()
        turns = itertools.cycle(actions(environments))
        result = rate(lambda: pool.step(next(turns)), environments, seconds)
        pool.close()
        return result

    return measure


def mujoco_rollout(environments, threads, seconds):
    import mujoco
    import numpy
    from mujoco import rollout

    kitchen = gymnasium_kitchen()
    kitchen.reset()
    robot = kitchen.unwrapped.robot_env
    model, (low, high) = robot.model, robot.robot_pos_bound[:ACTION].T
    full = mujoco.mjtState.mjSTATE_FULLPHYSICS
    start = numpy.empty(mujoco.mj_stateSize(model, full))
    mujoco.mj_getState(model, robot.data, start, full)
    states = numpy.tile(start, (environments, 1))
    targets = numpy.empty((environments, robot.frame_skip, ACTION))
    data = [mujoco.MjData(model) for _ in range(threads)]
    turns = itertools.cycle(enumerate(actions(environments)[:EPISODE]))

    def step():
        turn, action = next(turns)
        if turn == 0:
            states[:] = start
        # A state begins with the time. An action of 1 asks for 2 rad/s.
        positions = states[:, 1 : 1 + ACTION]
        targets[:] = numpy.clip(positions + 2 * robot.dt * action, low, high)[:, None]
        states[:] = pool.rollout(model, data, states, targets)[0][:, -1]

    with rollout.Rollout(nthread=threads if threads > 1 else 0) as pool:
        return rate(step, environments, seconds)


# ---------------------------------------------------------------------------------------------------------------------
# Learning: PyTorch eager
# ---------------------------------------------------------------------------------------------------------------------


def perceptron(inputs, width, outputs, hidden, norm):
    from torch import nn

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


def torch_skill_model(closed_loop):
    """Training steps at batch 128."""

    def measure(environments, threads, seconds):
        import torch
        from torch import nn

        torch.set_num_threads(threads)
        seen = ACTION + STATE if closed_loop else ACTION
        embed, encoder = nn.Linear(seen, WIDTH), nn.LSTM(WIDTH, WIDTH, batch_first=True)
        output, head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * SKILL)
        prior = perceptron(STATE, WIDTH, 2 * SKILL, 6, True)
        if closed_loop:
            decoder, start = [perceptron(STATE + SKILL, WIDTH, ACTION, 5, True)], []
        else:
            decoder = [nn.Linear(ACTION + SKILL, WIDTH), nn.LSTMCell(WIDTH, WIDTH), nn.Linear(WIDTH, ACTION)]
            # The first input, and the first hidden state [h | c].
            start = [nn.Parameter(torch.zeros(ACTION)), nn.Parameter(torch.zeros(2 * WIDTH))]
        modules = nn.ModuleList([embed, encoder, output, head, prior, *decoder])
        optimiser = torch.optim.RAdam([*modules.parameters(), *start], lr=1e-3, foreach=True)
        states, actions = torch.randn(128, LENGTH + 1, STATE), torch.randn(128, LENGTH, ACTION)

        def decode(z):
            if closed_loop:
                rows = torch.cat([states[:, :LENGTH], z[:, None].expand(-1, LENGTH, -1)], 2)
                return decoder[0](rows.view(-1, STATE + SKILL)).view(128, LENGTH, ACTION)
            out, hidden = (constant.expand(128, -1) for constant in start)
            hidden, outs = hidden.chunk(2, dim=1), []
            for _ in range(LENGTH):
                hidden = decoder[1](decoder[0](torch.cat([out, z], 1)), hidden)
                out = decoder[2](hidden[0])
                outs.append(out)
            return torch.stack(outs, 1)

        def step():
            sequence = torch.cat([actions, states[:, :LENGTH]], 2) if closed_loop else actions
            mean, log_sigma = gaussian(head(output(encoder(embed(sequence))[0][:, -1])))
            z = mean + log_sigma.exp() * torch.randn_like(mean)
            reconstruction = 0.5 * (decode(z) - actions).square().mean()
            divergence = (0.5 * (mean.square() + (2 * log_sigma).exp() - 1) - log_sigma).mean()
            p_mean, p_log_sigma = gaussian(prior(states[:, 0]))
            likelihood = 0.5 * ((z.detach() - p_mean) / p_log_sigma.exp()).square() + p_log_sigma
            loss = reconstruction + 5e-4 * divergence + likelihood.sum(-1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

        return rate(step, 1, seconds)

    return measure


def sac_rate(published, seconds):
    """Prior-regularised SAC updates at batch 256, on one thread."""
    import torch

    torch.set_num_threads(1)
    functional = torch.nn.functional
    policy, prior = perceptron(STATE, WIDTH, 2 * SKILL, 6, True), perceptron(STATE, WIDTH, 2 * SKILL, 6, True)
    policy.eval(), prior.eval()
    critics = [perceptron(STATE + SKILL, 256, 1, 5, False) for _ in range(2)]
    targets = [perceptron(STATE + SKILL, 256, 1, 5, False) for _ in range(2)]
    log_alpha = torch.zeros((), requires_grad=True)
    # On a processor `fused` is faster than `foreach`, and both are faster than the default.
    adam = lambda parameters: torch.optim.Adam(parameters, lr=3e-4, **({} if published else {"fused": True}))
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
        # Here the critics only judge: nobody needs the gradients of their weights.
        for critic in critics:
            critic.requires_grad_(published)
        q = torch.min(*[critic(torch.cat([state, skill], 1)) for critic in critics])
        policy_loss = (alpha * divergence - q[:, 0]).mean()
        with torch.no_grad():
            next_skill, next_divergence = act(following)
            next_input = torch.cat([following, next_skill], 1)
            value = torch.min(*[target(next_input) for target in targets])[:, 0] - alpha * next_divergence
            goal = reward[:, 0] + 0.99 * value
        for critic in critics:
            critic.requires_grad_(True)
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

    return rate(step, 1, seconds)


def torch_sac(published):
    """One learner, or as many as there are threads, side by side: updates of all together."""

    def measure(environments, threads, seconds):
        if threads == 1:
            return sac_rate(published, seconds)
        # Processes, because Python runs one thread of a process at a time.
        with multiprocessing.get_context("spawn").Pool(threads) as pool:
            return sum(pool.starmap(sac_rate, [(published, seconds)] * threads, chunksize=1))

    return measure


# ---------------------------------------------------------------------------------------------------------------------
# Taking turns
# ---------------------------------------------------------------------------------------------------------------------


class Peer(typing.NamedTuple):
    part: str
    # What `apprentice bench` calls the same work.
    ours: typing.Callable[[int, int], str]
    packages: tuple
    measure: typing.Callable[[int, int, float], float]


def simulation(environments, threads):
    return f"simulation, {environments} kitchens"


def sac(environments, threads):
    return "SAC in skill space, " + ("one thread" if threads == 1 else f"{threads} learners, one thread each")


GYMNASIUM = ("gymnasium", "gymnasium-robotics", "mujoco")
PEERS = {
    "EnvPool sync": Peer("simulation", simulation, ("envpool",), envpool_sync),
    "EnvPool async": Peer("simulation", simulation, ("envpool",), envpool_async),
    "Gymnasium sync vector": Peer("simulation", simulation, GYMNASIUM, gymnasium_vector("SyncVectorEnv")),
    "Gymnasium async vector": Peer("simulation", simulation, GYMNASIUM, gymnasium_vector("AsyncVectorEnv")),
    "MuJoCo rollout": Peer("simulation", simulation, GYMNASIUM, mujoco_rollout),
    "PyTorch closed loop": Peer("learning", lambda *_: "closed-loop skill model", ("torch",), torch_skill_model(True)),
    "PyTorch open loop": Peer("learning", lambda *_: "open-loop skill model", ("torch",), torch_skill_model(False)),
    "PyTorch SAC": Peer("learning", sac, ("torch",), torch_sac(False)),
    "PyTorch SAC, published order": Peer("learning", sac, ("torch",), torch_sac(True)),
}
PARTS = ["simulation", "learning"]


class Failed(Exception):
    """Why a side has no number, in one line."""


def run(command, threads, seconds):
    """Standard output of a command that may use the first `threads` cores."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            cwd=ROOT,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
            timeout=120 + 30 * seconds,
        )
    except subprocess.TimeoutExpired as late:
        raise Failed(f"not ready after {late.timeout:.0f} s") from None
    except OSError as error:
        raise Failed(str(error)) from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it says nothing"]
        raise Failed(f"{said[-1]} (exit code {done.returncode})")
    return done.stdout


def run_peer(arguments, name, threads):
    """Its rate and the versions of what it is made of."""
    python = arguments.torch if "torch" in PEERS[name].packages else sys.executable
    command = [python, os.path.abspath(__file__), "--only", name, "--threads", str(threads)]
    command += ["--seconds", str(arguments.seconds), "--environments", str(arguments.environments)]
    # Libraries may have printed something before.
    report = json.loads(run(command, threads, arguments.seconds).splitlines()[-1])
    return report["rate"], report["versions"]


def run_ours(arguments, part, threads):
    """Rates by name, processor, version."""
    command = [arguments.program, "--threads", str(threads), "bench", part, "--json"]
    command += ["--seconds", str(arguments.seconds), "--environments", str(arguments.environments)]
    command += ["--scene", arguments.scene]
    try:
        report = json.loads(run(command, threads, arguments.seconds))
    except Failed as reason:
        raise SystemExit(f"{' '.join(command)}: {reason}") from None
    # Scenes other than the kitchen are called by their names.
    called = lambda name: name.replace(f"of {arguments.scene}", "kitchens")
    rates = {called(result["name"]): result["value"] for result in report["results"] if result["unit"].endswith("/s")}
    return rates, report["processor"], report["version"]


def compare(arguments, parts):
    """All numbers: for every side, its rate in each round, or why it has none."""
    versions = {"Python": platform.python_version()}
    processor, sides = None, []
    for threads in arguments.threads:
        ours, theirs, failed = {}, {}, {}
        for turn, part in itertools.product(range(arguments.rounds), parts):
            for name, peer in PEERS.items():
                # Half of one environment is none.
                if peer.part != part or name in failed or (name == "EnvPool async" and arguments.environments < 2):
                    continue
                try:
                    result, more = run_peer(arguments, name, threads)
                    theirs.setdefault(name, []).append(result)
                    versions.update(more)
                    say(f"threads {threads}, round {turn + 1}: {name} {result:.1f}/s")
                except Failed as reason:
                    failed[name] = str(reason)
                    say(f"threads {threads}, round {turn + 1}: {name} failed: {reason}")
            rates, processor, versions["Apprentice"] = run_ours(arguments, part, threads)
            for name, result in rates.items():
                ours.setdefault(name, []).append(result)
            say(f"threads {threads}, round {turn + 1}: Apprentice, {part}")
        for name, rates in ours.items():
            sides.append({"threads": threads, "side": "Apprentice", "what": name, "rates": rates})
        for name, peer in PEERS.items():
            side = {"threads": threads, "side": name, "what": peer.ours(arguments.environments, threads)}
            if name in failed:
                sides.append({**side, "failed": failed[name]})
            elif name in theirs:
                sides.append({**side, "rates": theirs[name]})
    return processor, versions, sides


def table(arguments, sides):
    """Every peer beside Apprentice doing the same."""
    own = {
        (side["threads"], side["what"]): statistics.median(side["rates"])
        for side in sides
        if side["side"] == "Apprentice"
    }
    bare = f"bare mj_step, {arguments.environments} kitchens"
    rows = ["| threads | what | peer | Apprentice, 1/s | peer, 1/s | ratio |", "|---|---|---|---|---|---|"]
    for side in sides:
        threads, what, name = side["threads"], side["what"], side["side"]
        if name == "Apprentice":
            if what != bare:
                continue
            what, name = simulation(arguments.environments, threads), "bare `mj_step`"
        mine, other = own.get((threads, what)), None if "failed" in side else statistics.median(side["rates"])
        cells = [
            str(threads),
            what,
            name,
            "not measured" if mine is None else f"{mine:.1f}",
            "failed: " + side["failed"].replace("|", "/") if other is None else f"{other:.1f}",
            f"{mine / other:.2f}" if mine and other else "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(number) for number in text.split(",")]
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)} [default: both]")
    program = os.path.join(ROOT, "target/debug/apprentice")
    parser.add_argument("--program", default=program, help="[default: target/debug/apprentice]")
    parser.add_argument("--threads", type=numbers, default=[1, 2], help="numbers of threads, and cores [default: 1,2]")
    parser.add_argument("--environments", type=int, default=8, help="kitchens [default: 8]")
    parser.add_argument("--scene", default="kitchen", help="Apprentice's kitchen: kitchen [default] or kitchen_fast")
    parser.add_argument("--rounds", type=int, default=3, help="[default: 3]")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each number of each round [default: 3]")
    parser.add_argument("--json", metavar="FILE", help="write the number of every round to a file")
    parser.add_argument("--torch", metavar="PYTHON", default=sys.executable, help="Python with PyTorch [default: this]")
    parser.add_argument("--only", metavar="NAME", choices=PEERS, help=f"one peer alone: {', '.join(PEERS)}")
    arguments = parser.parse_args()
    parts = arguments.parts or PARTS
    if not set(parts) <= set(PARTS):
        parser.error(f"parts: expected {' or '.join(PARTS)}; found {' '.join(parts)}")
    if min(arguments.environments, arguments.rounds, *arguments.threads) < 1:
        parser.error("--environments, --rounds and --threads: expected at least 1")
    if max(arguments.threads) > len(os.sched_getaffinity(0)):
        parser.error(f"--threads: there are {len(os.sched_getaffinity(0))} cores")
    if arguments.only:
        peer = PEERS[arguments.only]
        result = peer.measure(arguments.environments, arguments.threads[0], arguments.seconds)
        versions = {name: importlib.metadata.version(name) for name in peer.packages}
        print(json.dumps({"rate": result, "versions": versions}))
        return
    date, load = datetime.datetime.now().isoformat(" ", "minutes"), round(os.getloadavg()[0], 2)
    if load > QUIET:
        say(f"warning: the machine was busy just now (load average {load}); close other programs and wait a minute")
    processor, versions, sides = compare(arguments, parts)
    if arguments.json:
        settings = {name: getattr(arguments, name) for name in ["environments", "rounds", "seconds"]}
        report = {"date": date, "load_before": load, "processor": processor, "versions": versions, **settings}
        with open(arguments.json, "w") as file:
            json.dump({**report, "sides": sides}, file, indent=1)
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"{date}, {processor}, load average {load} before. {named}. Kitchens: {arguments.environments}.", end=" ")
    print(f"Medians; rounds: {arguments.rounds}, seconds each: {arguments.seconds:g}.\n\n{table(arguments, sides)}")


if __name__ == "__main__":
    main()
