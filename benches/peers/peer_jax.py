"""The peer JAX, jitted. Its arguments are those of `peer.py`."""
import functools, time

import jax
import jax.numpy as jnp
import numpy as np

import peer, works
from families import DUAL_STEP, SPREAD, TARGET, prepare, turns_of
from operands import POOL, labels, values

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
PRECISIONS = {"f32": "highest", "tf32": "tensorfloat32", "bf16": "bfloat16"}
# Of arrays in PyTorch's layout, by their role: images have their channels last, filters are [kh, kw, in, out].
LAYOUTS = {"images": (0, 2, 3, 1), "filters": (2, 3, 1, 0), "filters up": (2, 3, 0, 1)}


def to_layout(layer, arrays):
    """Weights [in, out], filters as above, and images with their channels last."""
    kind, _, b, *where = layer
    if kind == "norm":
        return arrays
    w = arrays[0]
    if kind == "linear":
        w = w.T
        if where and where[0] == "of map":
            w = w.reshape(*where[1], b).transpose(1, 2, 0, 3).reshape(-1, b)
        if where and where[0] == "to map":
            w = w.reshape(-1, *where[1]).transpose(0, 2, 3, 1).reshape(-1, b)
    elif kind == "conv":
        w = w.transpose(LAYOUTS["filters"])
    else:
        w = w[:, :, ::-1, ::-1].transpose(LAYOUTS["filters up"])
    return [np.ascontiguousarray(w), *arrays[1:]]


class Jax:
    """What models and single operations are written against."""

    def __init__(self, device="cpu", kind="f32", fixed=False, key=None):
        self.device, self.fixed, self.dtype = device, fixed, jnp.bfloat16 if kind == "bf16" else jnp.float32
        self.itemsize, self.key = jnp.dtype(self.dtype).itemsize, jax.random.key(1) if key is None else key
        self.relu, self.tanh, self.softplus, self.exp, self.log = jax.nn.relu, jnp.tanh, jax.nn.softplus, jnp.exp, jnp.log
        self.cat, self.stop, self.array = jnp.concatenate, jax.lax.stop_gradient, jnp.asarray

    def images(self, a):
        return self.array(a.transpose(LAYOUTS["images"]))

    def cross_entropy(self, logits, target):
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], 1).mean()

    def params(self, layers, arrays):
        return [[self.array(a) for a in to_layout(s, l)] for s, l in zip(layers, arrays)]

    def normal(self, shape, salt=0):
        if self.fixed:
            return self.array(values(shape, salt, SPREAD))
        self.key, sub = jax.random.split(self.key)
        return jax.random.normal(sub, shape, self.dtype)

    def linear(self, x, p):
        return x @ p[0] + p[1]

    def conv(self, x, p):
        return jax.lax.conv_general_dilated(x, p[0], (2, 2), ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS) + p[1]

    def up(self, x, p):
        y = jax.lax.conv_transpose(x, p[0], (2, 2), "SAME", dimension_numbers=DIMENSIONS)
        return y + p[1] if len(p) == 2 else y

    def norm(self, x, p):
        mean = x.mean((0, 1, 2))
        variance = ((x - mean) ** 2).mean((0, 1, 2))
        return (x - mean) * (jax.lax.rsqrt(variance + 1e-5) * p[0]) + p[1]

    def leaky(self, x):
        return jax.nn.leaky_relu(x, 0.2)

    def flatten(self, x):
        return x.reshape(x.shape[0], -1)

    def to_map(self, x, c, h, w):
        return x.reshape(-1, h, w, c)

    def bernoulli(self, logits, target):
        return (self.softplus(logits) - logits * target).sum()

    def positive(self, x):
        return jnp.maximum(x, 0)

    def input_grad(self, f, x):
        v, back, other = jax.vjp(f, x, has_aux=True)
        return v, other, back(jnp.ones_like(v))[0]

    # of single operations alone

    def operand(self, salt, scale, grad, shape, role="", classes=0):
        """That of strait on a CPU; a GPU draws its own."""
        if role == "key":
            return jax.random.key(salt)
        if role == "labels":
            return jnp.asarray(labels(shape[0], classes, salt).astype("int32"))
        cpu = self.device == "cpu"
        x = jnp.asarray(values(shape, salt, scale)) if cpu else jax.random.uniform(jax.random.key(salt), shape, minval=-scale, maxval=scale)
        x = x + 0.125 if role == "shifted" else x
        return (x.transpose(LAYOUTS[role]) if role in LAYOUTS else x).astype(self.dtype)

    def copy(self, x):
        return x + 0

    def draw(self, shape, key):
        return jax.random.normal(key, shape)

    def logsumexp(self, x):
        return jax.nn.logsumexp(x, axis=1)

    def affine(self, x, w, b):
        return x @ w.T + b

    def product(self, a_transposed, b_transposed):
        return lambda a, b: (a.T if a_transposed else a) @ (b.T if b_transposed else b)

    def masked(self, g, y):
        return jnp.where(y > 0, g, 0)

    def convolution(self, which, transposed, bias, stride, padding, out):
        if transposed:  # the gradient of the convolution that leads back
            conv = lambda x, w: jax.lax.conv_transpose(x, w, (stride, stride), "SAME", dimension_numbers=DIMENSIONS)
        else:
            pad = ((padding, padding),) * 2
            conv = lambda x, w: jax.lax.conv_general_dilated(x, w, (stride, stride), pad, dimension_numbers=DIMENSIONS)
        return {"forward": lambda x, w, b, g: conv(x, w) + b if bias else conv(x, w), "both": lambda x, w, b, g: jax.vjp(conv, x, w)[1](g),
                "dx": lambda x, w, b, g: jax.vjp(lambda x: conv(x, w), x)[1](g),
                "dw": lambda x, w, b, g: (jax.vjp(lambda w: conv(x, w), w)[1](g), g.sum((0, 1, 2)))}[which]


# ------------------------------------------------------------------ runs: functions of the number of the turn


def run_of(B, case):
    work = works.build(B, case)
    operands = [work.make(10 * i + 1) for i in range(work.turns)]
    f = jax.jit(jax.value_and_grad(work.f, tuple(range(work.gradients))) if work.gradients else work.f)

    def run(i):
        out = f(*operands[i % len(operands)])
        return [out[0], *out[1]] if work.gradients else out
    return run


def updated(p, m, v, g, time, rate, b1, b2):
    """A step of Adam on trees: parameters and both averages."""
    s1, s2 = rate / (1 - b1**time), 1 - b2**time
    m = jax.tree.map(lambda m, a: b1 * m + (1 - b1) * a, m, g)
    v = jax.tree.map(lambda v, a: b2 * v + (1 - b2) * a * a, v, g)
    return jax.tree.map(lambda p, m, v: p - s1 * m / (jnp.sqrt(v / s2) + 1e-8), p, m, v), m, v


def zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def adam(B, case):
    weights, gradients = works.adam_operands(B, case)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, gradients):
        p, m, v, time = state
        return *updated(p, m, v, gradients, time + 1, 1e-3, 0.9, 0.999), time + 1

    box = [(weights, zeros(weights), zeros(weights), jnp.float32(0))]

    def run(_):
        box[0] = step(box[0], gradients)
        return box[0][0]
    return run


def training_step(case, device, fixed):
    """A run makes one step, all of it compiled, and gives its losses."""
    pool, P, losses, rate, decays = prepare(Jax(device, fixed=fixed), case["work"].removesuffix("_step"), case["shape"])
    turns, clocks = turns_of(losses), {trained: jnp.float32(0) for _, trained, _ in losses}
    box = [(P, zeros(P), zeros(P), clocks, jnp.float32(0.1), jax.random.key(0))]

    @functools.partial(jax.jit, donate_argnums=0)
    def whole(state, batches):
        P, M, V, clocks, beta, key = state
        P, M, V, clocks, out = dict(P), dict(M), dict(V), dict(clocks), {}
        for (loss_of, trained, _), d in zip(losses, batches):
            key, sub = jax.random.split(key)
            clocks[trained] += 1
            f = lambda q: loss_of(Jax(device, fixed=fixed, key=sub), {**P, **q}, d, beta)
            (loss, kl), g = jax.value_and_grad(f, has_aux=True)({k: P[k] for k in trained})
            for k in trained:
                P[k], M[k], V[k] = updated(P[k], M[k], V[k], g[k], clocks[trained], rate, *decays)
            if kl is not None:
                beta = jnp.maximum(0, beta + DUAL_STEP * (kl - TARGET))
            out[trained] = loss
        return (P, M, V, clocks, beta, key), list(out.values())

    def run(i):
        box[0], out = whole(box[0], [pool[(many * i + which) % POOL] for many, which in turns])
        return out
    return run


def contestants(case, device, fixed, compiled):
    """(name, what makes the run, whether it is captured): one, or none if the work is not written here."""
    jax.config.update("jax_default_matmul_precision", PRECISIONS[case["dtype"]] if device == "cuda" else None)
    words, B = works.words_of(case), Jax(device, case["dtype"])
    if "ema" in words or "clip" in words:
        return
    if case["work"].endswith("_step"):
        yield "jax", functools.partial(training_step, case, device, fixed), False
    else:
        yield "jax", functools.partial(adam if words[0] == "adam" else run_of, B, case), False


def timer(run, captured, device):
    def elapsed(copies):
        start = time.perf_counter()
        for i in range(copies):
            last = run(i)
        jax.block_until_ready(last)
        return (time.perf_counter() - start) * 1e6
    elapsed(2)  # compiles
    return elapsed


def start(device, threads):
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")


def alive(device):
    """Whether the device still works: a kernel's fault leaves it dead to this process."""
    try:
        jax.block_until_ready(jnp.zeros(1) + 1)
    except RuntimeError:
        return False
    return True


if __name__ == "__main__":
    peer.main(contestants, timer, jax.block_until_ready, start, alive)
