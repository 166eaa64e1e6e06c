"""Steps copies of a Gymnasium environment for strait, which starts this file and talks to it by its standard input and output.

The first line is JSON: {"version": 1, "env": ID, "count": COPIES, "kwargs": {..}}. The answer is a line of JSON with "observations" and
"actions", which are {"low": [..], "high": [..]} with null for no bound or {"count": N}, with "horizon" (or null), "state" (numbers of a
copy's state, or 0 if it cannot be told) and "versions"; or it is {"error": TEXT}.

After that a request is a letter and numbers, all little-endian, a row for each copy:
  s  rest u8, actions f32       -> rewards f64, flags u8 (1 terminated, 2 truncated), observations f32
  r  which u8, seeds u32        -> observations f32
  g                             -> states f64
  p  states f64                 -> observations f32
An answer begins with "k", or with "e", a length u32 and a text. Copies that rest, and those that are not reset, keep their rows. Nothing
resets by itself. The program ends with its input.

A user starts it by "python gymnasium-bridge.py --minari ID FILE.npz", too: then it writes a data set of the package minari as
demonstrations, which "strait demos convert FILE.npz --out FILE.safetensors" reads."""

import json
import os
import struct
import sys
import threading
import time
import zipfile


def main():
    if sys.argv[1:]:
        return convert(sys.argv[1:])
    end_with_parent()
    # Libraries print; the answers go elsewhere.
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def say(answer):
        sink.write(json.dumps(answer).encode() + b"\n")
        sink.flush()

    hello = json.loads(source.readline())
    if hello["version"] != 1:
        return say({"error": "version %s of the protocol is not known here, only 1" % hello["version"]})
    try:
        copies = Copies(hello["env"], hello["count"], hello["kwargs"])
    except Exception as e:
        return say({"error": "%s: %s" % (type(e).__name__, e)})
    say(copies.about)

    requests = {b"s": copies.step, b"r": copies.reset, b"g": copies.states, b"p": copies.restore}
    lengths = copies.lengths()
    while True:
        letter = source.read(1)
        if not letter:
            return
        body = source.read(lengths[letter])
        try:
            sink.write(b"k" + requests[letter](body))
        except Exception as e:
            text = ("%s: %s" % (type(e).__name__, e)).encode()
            sink.write(b"e" + struct.pack("<I", len(text)) + text)
        sink.flush()


def end_with_parent():
    """Ends this process soon after the one that started it, in whatever way that ended. Its input ends then, too, but an environment that
    hangs does not come to read that."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Copies:
    def __init__(self, name, count, kwargs):
        import gymnasium
        import numpy

        self.np = numpy
        self.envs = [gymnasium.make(name, **kwargs) for _ in range(count)]
        env = self.envs[0]
        self.discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
        observations, actions = self.space(env.observation_space, "observations"), self.space(env.action_space, "actions")
        self.width = len(observations.get("low", "1"))
        self.actions = len(actions.get("low", "1"))
        self.seen = numpy.zeros((count, self.width), numpy.float32)
        for env in self.envs:
            env.reset(seed=0)
        self.kind, state = self.kind_of_state(self.envs[0])
        versions = ["Python %d.%d.%d" % sys.version_info[:3], "gymnasium " + gymnasium.__version__, "numpy " + numpy.__version__]
        if self.kind == "mujoco":
            import mujoco

            versions.append("mujoco " + mujoco.__version__)
        horizon = self.envs[0].spec.max_episode_steps
        self.about = dict(observations=observations, actions=actions, horizon=horizon, state=state, versions=", ".join(versions))
        self.state_width = state

    def space(self, space, what):
        if kind_of_space(space, what) == "choices":
            return {"count": int(space.n)}
        bound = lambda values: [float(v) if self.np.isfinite(v) else None for v in values.astype(self.np.float32).ravel()]
        return {"low": bound(space.low), "high": bound(space.high)}

    def lengths(self):
        count = len(self.envs)
        return {b"s": count * (1 + 4 * self.actions), b"r": count * 5, b"g": 0, b"p": count * 8 * self.state_width}

    def keep(self, i, observation):
        space = self.envs[i].observation_space
        self.seen[i] = self.np.asarray(observation, self.np.float32).ravel() - getattr(space, "start", 0)

    def step(self, body):
        np, count = self.np, len(self.envs)
        rest = body[:count]
        actions = np.frombuffer(body, np.float32, offset=count).reshape(count, self.actions)
        rewards, flags = np.zeros(count), np.zeros(count, np.uint8)
        for i, env in enumerate(self.envs):
            if rest[i]:
                continue
            space = env.action_space
            if self.discrete:
                action = int(actions[i, 0]) + int(space.start)
            else:
                action = np.clip(actions[i].reshape(space.shape), space.low, space.high).astype(space.dtype)
            observation, rewards[i], terminated, truncated, _ = env.step(action)
            flags[i] = (1 if terminated else 0) | (2 if truncated else 0)
            self.keep(i, observation)
        return rewards.tobytes() + flags.tobytes() + self.seen.tobytes()

    def reset(self, body):
        count = len(self.envs)
        seeds = self.np.frombuffer(body, self.np.uint32, offset=count) if count % 4 == 0 else struct.unpack("<%dI" % count, body[count:])
        for i in range(count):
            if body[i]:
                self.keep(i, self.envs[i].reset(seed=int(seeds[i]))[0])
        return self.seen.tobytes()

    # A state is the steps of the episode, the observation, and what the simulator keeps.

    def kind_of_state(self, env):
        inner = env.unwrapped
        if hasattr(inner, "model") and hasattr(inner, "data") and type(inner.data).__module__.startswith("mujoco"):
            import mujoco

            self.mujoco, self.signature = mujoco, mujoco.mjtState.mjSTATE_INTEGRATION
            return "mujoco", 1 + self.width + mujoco.mj_stateSize(inner.model, self.signature)
        state = getattr(inner, "state", None)
        if type(inner).__module__.startswith("gymnasium.envs.classic_control") and state is not None:
            return "classic", 2 + self.width + len(state)
        return None, 0

    def clock(self, env):
        while env is not env.unwrapped:
            if hasattr(env, "_elapsed_steps"):
                return env
            env = env.env
        return None

    def states(self, _):
        np = self.np
        rows = []
        for i, env in enumerate(self.envs):
            inner, clock = env.unwrapped, self.clock(env)
            row = [[clock._elapsed_steps if clock else 0], self.seen[i]]
            if self.kind == "mujoco":
                state = np.zeros(self.state_width - 1 - self.width)
                self.mujoco.mj_getState(inner.model, inner.data, state, self.signature)
                row.append(state)
            elif self.kind == "classic":
                # Whether it is in f32, which one of the tasks rounds to after a first step.
                row += [[np.asarray(inner.state).dtype == np.float32], inner.state]
            rows.append(np.concatenate([np.asarray(part, np.float64).ravel() for part in row]))
        return np.concatenate(rows).tobytes()

    def restore(self, body):
        np = self.np
        rows = np.frombuffer(body, np.float64).reshape(len(self.envs), -1)
        for i, (env, row) in enumerate(zip(self.envs, rows)):
            env.reset(seed=0)
            inner, clock = env.unwrapped, self.clock(env)
            if clock:
                clock._elapsed_steps = int(row[0])
            self.seen[i] = row[1 : 1 + self.width]
            rest = row[1 + self.width :]
            if self.kind == "mujoco":
                # The second time because derived quantities change the solver's first guess.
                self.mujoco.mj_setState(inner.model, inner.data, rest, self.signature)
                self.mujoco.mj_forward(inner.model, inner.data)
                self.mujoco.mj_setState(inner.model, inner.data, rest, self.signature)
            else:
                inner.state = rest[1:].astype(np.float32 if rest[0] else np.float64)
        return self.seen.tobytes()


def kind_of_space(space, what):
    import gymnasium

    if isinstance(space, gymnasium.spaces.Discrete):
        return "choices"
    if isinstance(space, gymnasium.spaces.Box):
        return "numbers"
    raise TypeError("%s of the kind %s cannot be used, only Box and Discrete" % (what, type(space).__name__))


def convert(arguments):
    """Writes a data set of Minari as a flat .npz file of demonstrations."""
    if len(arguments) != 3 or arguments[0] != "--minari":
        sys.exit("usage: python gymnasium-bridge.py --minari ID FILE.npz")
    _, name, path = arguments
    try:
        import minari

        demonstrations = Demonstrations(minari.load_dataset(name))
    except ImportError as e:
        sys.exit("%s; a data set of Minari is read by the package minari: pip install 'minari[hdf5]'" % e)
    except Exception as e:
        sys.exit("the data set %s: %s: %s" % (name, type(e).__name__, e))
    demonstrations.write(path)
    print("%s: %d paths, %d steps" % (path, len(demonstrations.lengths), sum(demonstrations.lengths)))


class Demonstrations:
    """Paths of a data set, one after the other, as bytes."""

    def __init__(self, data):
        self.observations, self.actions = Rows(data.observation_space, "observations"), Rows(data.action_space, "actions")
        self.next, self.rewards, self.dones = Rows(data.observation_space, "observations"), [], []
        self.lengths, self.terminated = [], []
        for number, episode in enumerate(data.iterate_episodes()):
            observations, actions, rewards = list(episode.observations), list(episode.actions), numbers(episode.rewards)
            steps = len(actions)
            if len(observations) != steps + 1 or len(rewards) != steps:
                found = (number, len(observations), steps, len(rewards))
                raise ValueError("episode %d has %d observations, %d actions and %d rewards" % found)
            if steps == 0:
                continue
            self.observations.add(observations[:-1])
            self.next.add(observations[1:])
            self.actions.add(actions)
            self.rewards += rewards
            self.dones += [0] * (steps - 1) + [1]
            self.lengths.append(steps)
            self.terminated.append(int(numbers(episode.terminations)[-1] != 0))
        if not self.lengths:
            raise ValueError("there are no steps in it")

    def write(self, path):
        steps, paths = sum(self.lengths), len(self.lengths)
        observations = (steps, self.observations.width)
        arrays = {
            "obs": ("<f4", observations, self.observations.bytes()),
            "acts": self.actions.array(steps),
            "next_obs": ("<f4", observations, self.next.bytes()),
            "rews": ("<f8", (steps,), struct.pack("<%dd" % steps, *self.rewards)),
            "dones": ("|u1", (steps,), bytes(self.dones)),
            "lengths": ("<i8", (paths,), struct.pack("<%dq" % paths, *self.lengths)),
            "terminated": ("|u1", (paths,), bytes(self.terminated)),
        }
        # The file is whole or is not there.
        with zipfile.ZipFile(path + ".tmp", "w") as file:
            for name, (kind, shape, content) in arrays.items():
                head = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (kind, shape)
                head += " " * (-(len(head) + 11) % 64) + "\n"
                with file.open(name + ".npy", "w", force_zip64=True) as member:
                    member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + content)
        os.replace(path + ".tmp", path)


class Rows:
    """Values of a space: rows of numbers, or the index of a choice, from 0 on, in each."""

    def __init__(self, space, what):
        self.what, self.choices = what, kind_of_space(space, what) == "choices"
        self.start = int(getattr(space, "start", 0)) if self.choices else 0
        self.width, self.parts = None, []

    def add(self, values):
        rows = [numbers(value) for value in values]
        self.width = self.width or len(rows[0])
        if any(len(row) != self.width for row in rows):
            raise ValueError("%s have not the same number of numbers everywhere" % self.what)
        every = [number - self.start for row in rows for number in row]
        self.parts.append(struct.pack("<%df" % len(every), *every))

    def bytes(self):
        return b"".join(self.parts)

    def array(self, steps):
        if not self.choices:
            return "<f4", (steps, self.width), self.bytes()
        choices = struct.unpack("<%df" % steps, self.bytes())
        return "<i8", (steps,), struct.pack("<%dq" % steps, *map(int, choices))


def numbers(value):
    """The numbers of a number, or of an array of any shape, in order."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, (list, tuple)):
        return [number for part in value for number in numbers(part)]
    return [float(value)]


main()
