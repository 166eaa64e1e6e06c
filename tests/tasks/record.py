"""Makes the reference steps of tests/tasks.rs: pip install gymnasium==1.4.0, then python record.py. Columns of each file: 1 for the first
step of an episode, state, action, next state, observation, reward, terminated. Half of the rows are of episodes under random actions that
hold for some steps, the others single steps from anywhere, so that every clip, wall and end occurs."""

import os

import gymnasium
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
PI = np.pi
# Name, Gymnasium's name, how far states go, how far actions go.
TASKS = [
    ("cartpole", "CartPole-v1", ([-2.5, -3, -0.25, -3], [2.5, 3, 0.25, 3]), None),
    ("pendulum", "Pendulum-v1", ([-12, -8], [12, 8]), 3),
    ("mountain-car", "MountainCar-v0", ([-1.2, -0.07], [0.6, 0.07]), None),
    ("mountain-car-continuous", "MountainCarContinuous-v0", ([-1.2, -0.07], [0.6, 0.07]), 1.5),
    ("acrobot", "Acrobot-v1", ([-PI, -PI, -4 * PI, -9 * PI], [PI, PI, 4 * PI, 9 * PI]), None),
]

for name, known, (low, high), reach in TASKS:
    rng = np.random.default_rng(1)
    env = gymnasium.make(known).unwrapped
    rows, fresh, held = [], True, 0
    for number in range(240):
        alone = number >= 120
        if alone:
            state = rng.uniform(low, high)
            if reach and name.startswith("mountain"):
                # What follows a first step is in f32.
                fresh = bool(number % 2)
                state = state if fresh else state.astype(np.float32)
            env.reset(seed=number)
            env.state = state
        elif fresh:
            env.reset(seed=number)
        if alone or held == 0:
            held = int(rng.integers(1, 12))
            action = np.float32([rng.uniform(-reach, reach)]) if reach else int(rng.integers(env.action_space.n))
        held -= 1
        before = np.array(env.state, dtype=np.float64)
        observation, reward, terminated, _, _ = env.step(action)
        after = np.array(env.state, dtype=np.float64)
        taken = action[0] if reach else action
        rows.append([float(fresh), *before, taken, *after, *observation, reward, float(terminated)])
        fresh = terminated or number % 60 == 59
    np.save(os.path.join(HERE, name + ".npy"), np.array(rows, dtype=np.float64))
    print(name, len(rows), "rows,", int(np.array(rows)[:, -1].sum()), "ends")
