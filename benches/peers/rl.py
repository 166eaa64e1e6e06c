"""Times tasks, PPO and GAIL on CartPole against Gymnasium, stable-baselines3, the form of CleanRL's scripts, and imitation.

    cargo bench --bench rl --no-run
    python3 benches/peers/rl.py [--rounds 7] [--threads 2] [NAME..]

Every round runs one unit of the work in each program, one after the other, so that a change of the machine's speed meets all of them; the
table has medians and ratios of medians. Needs: torch, gymnasium, stable-baselines3, imitation, and a numpy below 2, as the Gymnasium that
imitation asks for does."""

import argparse
import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time

COPIES, STEPS = 64, 200
# PPO: 8 copies of 256 steps, 10 epochs of minibatches of 64, two networks of 64-64 tanh.
ENVS, LENGTH, EPOCHS, MINIBATCH, RATE = 8, 256, 10, 64, 3e-4
# The name of a task, Gymnasium's id.
TASKS = {
    "envs_cartpole": "CartPole-v1",
    "envs_pendulum": "Pendulum-v1",
    "envs_acrobot": "Acrobot-v1",
    "envs_mountain_car": "MountainCar-v0",
}


class Strait:
    """The bench program, which answers a name with the seconds of a unit."""

    def __init__(self, threads):
        command = ["cargo", "bench", "--quiet", "--bench", "rl", "--", "--serve"]
        env = dict(os.environ, RAYON_NUM_THREADS=str(threads))
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def unit(self, name):
        self.child.stdin.write(name + "\n")
        self.child.stdin.flush()
        return float(self.child.stdout.readline())


def environments(env, vectorized):
    """Steps of many copies by Gymnasium: one after the other, or by an implementation of all copies at once where there is one."""
    import gymnasium
    import numpy

    if vectorized:
        entry = gymnasium.spec(env).vector_entry_point
        if entry is None:
            return None
        module, name = entry.split(":")
        envs = getattr(__import__(module, fromlist=[name]), name)(num_envs=COPIES)
    else:
        envs = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make(env, disable_env_checker=True)] * COPIES)
    envs.reset(seed=1)
    envs.action_space.seed(2)
    actions = [envs.action_space.sample() for _ in range(STEPS)]

    def unit():
        for action in actions:
            envs.step(numpy.asarray(action))

    return unit


def stable_baselines(threads):
    """One iteration of stable-baselines3's PPO."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(threads)
    envs = make_vec_env("CartPole-v1", n_envs=ENVS, seed=1)
    model = PPO("MlpPolicy", envs, n_steps=LENGTH, batch_size=MINIBATCH, n_epochs=EPOCHS, learning_rate=RATE, device="cpu")
    return lambda: model.learn(ENVS * LENGTH)


def script(threads):
    """One iteration of PPO as CleanRL's scripts have it: all in one file, tensors of torch, Gymnasium's vector environments."""
    import gymnasium
    import numpy
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    envs = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("CartPole-v1", disable_env_checker=True)] * ENVS)
    layers = lambda out: nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, out))
    actor, critic = layers(2), layers(1)
    parameters = [*actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=RATE, eps=1e-5)
    state = {"seen": torch.tensor(envs.reset(seed=1)[0]), "done": torch.zeros(ENVS)}

    def unit():
        observations, actions = torch.zeros(LENGTH, ENVS, 4), torch.zeros(LENGTH, ENVS)
        densities, rewards, dones, values = (torch.zeros(LENGTH, ENVS) for _ in range(4))
        for t in range(LENGTH):
            observations[t], dones[t] = state["seen"], state["done"]
            with torch.no_grad():
                policy = torch.distributions.Categorical(logits=actor(state["seen"]))
                action = policy.sample()
                densities[t], values[t] = policy.log_prob(action), critic(state["seen"]).flatten()
            actions[t] = action
            seen, reward, terminated, truncated, _ = envs.step(action.numpy())
            rewards[t] = torch.tensor(reward)
            state["seen"] = torch.tensor(seen)
            state["done"] = torch.tensor(numpy.logical_or(terminated, truncated), dtype=torch.float32)
        with torch.no_grad():
            following, going = critic(state["seen"]).flatten(), 1 - state["done"]
            advantages, last = torch.zeros(LENGTH, ENVS), 0
            for t in reversed(range(LENGTH)):
                delta = rewards[t] + 0.99 * following * going - values[t]
                advantages[t] = last = delta + 0.99 * 0.95 * going * last
                following, going = values[t], 1 - dones[t]
        flat = lambda x: x.reshape(LENGTH * ENVS, *x.shape[2:])
        o, a, d, adv, ret = map(flat, (observations, actions, densities, advantages, advantages + values))
        for _ in range(EPOCHS):
            for rows in torch.randperm(LENGTH * ENVS).split(MINIBATCH):
                policy = torch.distributions.Categorical(logits=actor(o[rows]))
                ratio = (policy.log_prob(a[rows]) - d[rows]).exp()
                scaled = (adv[rows] - adv[rows].mean()) / (adv[rows].std() + 1e-8)
                surrogate = torch.max(-scaled * ratio, -scaled * ratio.clamp(0.8, 1.2)).mean()
                error = ((critic(o[rows]).flatten() - ret[rows]) ** 2).mean()
                optimizer.zero_grad()
                (surrogate + 0.5 * error).backward()
                nn.utils.clip_grad_norm_(parameters, 0.5)
                optimizer.step()

    return unit


def imitation(threads):
    """One round of imitation's GAIL over stable-baselines3's PPO."""
    import numpy
    import torch
    from imitation.algorithms.adversarial.gail import GAIL
    from imitation.data import rollout
    from imitation.data.wrappers import RolloutInfoWrapper
    from imitation.rewards.reward_nets import BasicRewardNet
    from imitation.util import logger
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(threads)
    wrap = lambda env, _=None: RolloutInfoWrapper(env)
    envs = make_vec_env("CartPole-v1", n_envs=ENVS, seed=1, wrapper_class=wrap)
    learner = PPO("MlpPolicy", envs, n_steps=LENGTH, batch_size=MINIBATCH, n_epochs=EPOCHS, learning_rate=RATE, device="cpu")
    enough = rollout.make_sample_until(min_timesteps=None, min_episodes=60)
    paths = rollout.rollout(learner, envs, enough, rng=numpy.random.default_rng(1), verbose=False)
    trainer = GAIL(
        demonstrations=paths,
        demo_batch_size=1024,
        n_disc_updates_per_round=4,
        gen_train_timesteps=ENVS * LENGTH,
        venv=envs,
        gen_algo=learner,
        reward_net=BasicRewardNet(envs.observation_space, envs.action_space, hid_sizes=(32, 32)),
        allow_variable_horizon=True,
        custom_logger=logger.configure(tempfile.mkdtemp(), []),
    )

    def unit():
        with contextlib.redirect_stderr(io.StringIO()):
            trainer.train(ENVS * LENGTH)

    return unit


def contestants(name, threads):
    """What makes the rivals of a piece of work, by name; nothing is made where there is no such rival."""
    if name in TASKS:
        env = TASKS[name]
        return {"Gymnasium": lambda: environments(env, False), "Gymnasium, vectorised": lambda: environments(env, True)}
    if name == "ppo_cartpole":
        return {"stable-baselines3": lambda: stable_baselines(threads), "script": lambda: script(threads)}
    return {"imitation": lambda: imitation(threads)}


def ready(makers):
    """The rivals that can be made and run once; the others are named with the reason."""
    units = {}
    for rival, make in makers.items():
        try:
            unit = make()
            if unit:
                unit()
                units[rival] = unit
        except Exception as e:
            print("    %s does not run: %s: %s" % (rival, type(e).__name__, e))
    return units


def seconds(unit):
    start = time.perf_counter()
    unit()
    return time.perf_counter() - start


def main():
    known = [*TASKS, "ppo_cartpole", "gail_cartpole", "vail_cartpole"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="work, of: " + ", ".join(known))
    parser.add_argument("--rounds", type=int, default=7, help="rounds after the first, which is not counted")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    strait = Strait(options.threads)
    print("%-18s %10s   rivals, in ms, and how many times as long they take" % ("", "strait, ms"))
    for name in options.names or known:
        if name not in known:
            sys.exit("no work is called %s; there are %s" % (name, ", ".join(known)))
        rivals = ready(contestants(name, options.threads))
        times = {rival: [] for rival in ["strait", *rivals]}
        for _ in range(options.rounds + 1):
            times["strait"].append(strait.unit(name))
            for rival, unit in rivals.items():
                times[rival].append(seconds(unit))
        medians = {rival: statistics.median(all[1:]) for rival, all in times.items()}
        own = medians.pop("strait")
        shown = ", ".join("%s %.1f (%.1f x)" % (rival, 1e3 * m, m / own) for rival, m in medians.items())
        print("%-18s %10.2f   %s" % (name, 1e3 * own, shown), flush=True)


main()
