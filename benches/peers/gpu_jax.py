"""The work of `benches/cuda` in JAX, jitted, on the same GPU.

    gpu_jax.py [--json FILE] [--few] [--below N] [NAME...]

A case is called once and several times in a row, on operands that take turns, each time until the last result is there; its time is the
difference by the number of further calls, the median over the repetitions. Precision is full f32 unless the case says otherwise."""
import argparse, json, math, statistics, time

import jax
import jax.numpy as jnp

jax.config.update("jax_default_matmul_precision", "highest")
COPIES = 11
KEY = jax.random.key(1)


def uniform(*shape, dtype=jnp.float32):
    return jax.random.uniform(KEY, shape, minval=-1.0, maxval=1.0).astype(dtype)


def of(f, size, make):
    """f on operands made by `make`, `size` bytes of them in turn."""
    operands = [make() for _ in range(max(1, min(COPIES, -(-(120 << 20) // max(size, 1)))))]
    f = jax.jit(f)
    return lambda i: f(*operands[i % len(operands)])


def elementwise(count, f):
    return of(f, 8 * count, lambda: (uniform(count),))


def matrix(shape, f):
    return of(f, 4 * math.prod(shape), lambda: (uniform(*shape),))


def product(m, k, n, dtype=jnp.float32):
    size = (m * k + k * n + m * n) * jnp.dtype(dtype).itemsize
    return of(jnp.matmul, size, lambda: (uniform(m, k, dtype=dtype), uniform(k, n, dtype=dtype)))


def linear(rows, width=1024):
    f = jax.grad(lambda x, w, b: jax.nn.relu(x @ w.T + b).sum(), argnums=(0, 1, 2))
    return of(f, (3 * rows + 2 * width) * width * 4, lambda: (uniform(rows, width), uniform(width, width), uniform(width)))


def head(x, key):
    """A sample of z and its rate from statistics, as softplus(raw - 5) has it."""
    mean, raw = jnp.split(x, 2, axis=1)
    sigma = jax.nn.softplus(raw - 5)
    z = mean + sigma * jax.random.normal(key, mean.shape)
    return z, 0.5 * (mean**2 + sigma**2 - 1 - 2 * jnp.log(sigma)).sum(1)


def bottleneck(rows, latent):
    def f(x):
        z, kl = head(x, KEY)
        return z.sum() + kl.mean()
    return of(jax.grad(f), 8 * rows * latent * 4, lambda: (uniform(rows, 2 * latent),))


def of_labels(logits):
    target = jnp.arange(logits.shape[0]) * 7 % logits.shape[1]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], 1).mean()


def cross_entropy(rows, classes):
    return of(jax.grad(of_labels), 3 * rows * classes * 4, lambda: (uniform(rows, classes),))


def mmd2(n, d):
    def f(x, y):
        square = lambda a, b: jnp.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0)
        k = lambda a, b: jnp.exp(-square(a, b) / (2 * d * d)).mean()
        return k(x, x) - 2 * k(x, y) + k(y, y)
    return of(jax.grad(f), 12 * n * d, lambda: (uniform(n, d), uniform(n, d)))


def convolution():
    f = lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW")).sum()
    return of(jax.grad(f, argnums=(0, 1)), 2 * 32 * 64 * 32 * 32 * 4, lambda: (uniform(32, 64, 32, 32), uniform(64, 64, 3, 3)))


def updated(weight, gradient, m, v, step, rate=1e-3, beta1=0.9):
    m, v = beta1 * m + (1 - beta1) * gradient, 0.999 * v + 0.001 * gradient**2
    return weight - rate * (m / (1 - beta1**step)) / (jnp.sqrt(v / (1 - 0.999**step)) + 1e-8), m, v


def stepping(step, state):
    """`step` takes the state, which it may write over, and the number of the call."""
    step = jax.jit(step, donate_argnums=0)

    def run(i):
        nonlocal state
        state = step(state, i)
        return state[-1]
    return run


def adam(count):
    gradient = uniform(count)
    f = lambda state, _: (*updated(state[0], gradient, state[1], state[2], state[3]), state[3] + 1)
    return stepping(f, (uniform(count), jnp.zeros(count), jnp.zeros(count), jnp.float32(1)))


def vib(batch):
    """Forward, backward, noise and Adam of the paper's classifier of MNIST."""
    sizes = [(784, 1024), (1024, 1024), (1024, 512), (256, 10)]
    weights = [(uniform(a, b) / a**0.5, jnp.zeros(b)) for a, b in sizes]
    zeros = lambda: jax.tree.map(jnp.zeros_like, weights)
    pool = uniform(8, batch, 784)

    def loss(weights, x, key):
        a, b, c, decoder = weights
        layer = lambda x, w: x @ w[0] + w[1]
        z, kl = head(layer(jax.nn.relu(layer(jax.nn.relu(layer(x, a)), b)), c), key)
        return of_labels(layer(z, decoder)) + 1e-3 * kl.mean()

    def step(state, i):
        weights, m, v, t = state
        gradients = jax.grad(loss)(weights, pool[i % 8], jax.random.fold_in(KEY, t.astype(int)))
        new = jax.tree.map(lambda w, g, m, v: updated(w, g, m, v, t, 1e-4, 0.5), weights, gradients, m, v)
        part = lambda k: jax.tree.map(lambda three: three[k], new, is_leaf=lambda x: isinstance(x, tuple) and len(x) == 3)
        return part(0), part(1), part(2), t + 1
    return stepping(step, (weights, zeros(), zeros(), jnp.float32(1)))


CASES = [
    ("copy", "67108864", "f32", lambda: elementwise(1 << 26, lambda x: x + 0)),
    ("exp", "10000000", "f32", lambda: elementwise(10_000_000, jnp.exp)),
    ("tanh", "10000000", "f32", lambda: elementwise(10_000_000, jnp.tanh)),
    ("softplus", "10000000", "f32", lambda: elementwise(10_000_000, jax.nn.softplus)),
    ("normals", "16777216", "f32", lambda: elementwise(1 << 24, lambda x: jax.random.normal(KEY, x.shape))),
    ("sum_all", "67108864", "f32", lambda: elementwise(1 << 26, jnp.sum)),
    ("sum_rows", "65536x1024", "f32", lambda: matrix((1 << 16, 1 << 10), lambda x: x.sum(1))),
    ("sum_columns", "65536x1024", "f32", lambda: matrix((1 << 16, 1 << 10), lambda x: x.sum(0))),
    ("matmul", "2048", "f32", lambda: product(2048, 2048, 2048)),
    ("matmul", "4096", "f32", lambda: product(4096, 4096, 4096)),
    ("matmul", "100x784x1024", "f32", lambda: product(100, 784, 1024)),
    ("matmul", "1024x8192x1024", "f32", lambda: product(1024, 8192, 1024)),
    ("matmul", "4096", "bf16", lambda: product(4096, 4096, 4096, jnp.bfloat16)),
    ("linear_relu", "100x1024x1024", "f32", lambda: linear(100)),
    ("linear_relu", "4096x1024x1024", "f32", lambda: linear(4096)),
    ("bottleneck", "100x256", "f32", lambda: bottleneck(100, 256)),
    ("bottleneck", "4096x256", "f32", lambda: bottleneck(4096, 256)),
    ("bottleneck", "65536x32", "f32", lambda: bottleneck(65536, 32)),
    ("bottleneck", "65536x256", "f32", lambda: bottleneck(65536, 256)),
    ("cross_entropy", "100x10", "f32", lambda: cross_entropy(100, 10)),
    ("cross_entropy", "65536x10", "f32", lambda: cross_entropy(65536, 10)),
    ("cross_entropy", "65536x1000", "f32", lambda: cross_entropy(65536, 1000)),
    ("mmd2", "1024x64", "f32", lambda: mmd2(1024, 64)),
    ("mmd2", "8192x64", "f32", lambda: mmd2(8192, 64)),
    ("conv2d", "32x64x32x32", "f32", convolution),
    ("adam", "2380000", "f32", lambda: adam(2_380_000)),
    ("adam", "100000000", "f32", lambda: adam(100_000_000)),
    ("vib_step", "100", "f32", lambda: vib(100)),
    ("vib_step", "1000", "f32", lambda: vib(1000)),
]


def measure(run, repetitions):
    """Microseconds of one call."""
    def elapsed(copies):
        start = time.perf_counter()
        for i in range(copies):
            last = run(i)
        jax.block_until_ready(last)
        return (time.perf_counter() - start) * 1e6
    elapsed(COPIES)
    times = sorted((elapsed(COPIES) - elapsed(1)) / (COPIES - 1) for _ in range(repetitions))
    return statistics.median(times), (times[3 * len(times) // 4] - times[len(times) // 4]) / 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--below", type=float, default=math.inf)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    out = open(options.json, "w") if options.json else None
    for name, shape, dtype, make in CASES:
        if options.names and not any(name.startswith(n) for n in options.names):
            continue
        if math.prod(map(int, shape.split("x"))) >= options.below:
            continue
        us, spread = measure(make(), 3 if options.few else 30)
        print(f"{name:28} {shape:>22} {dtype:>5} {'jit':>10} {us:12.2f} {spread / us * 100:6.1f}%", flush=True)
        if out:
            out.write(json.dumps({"id": name, "shape": shape, "dtype": dtype, "peer": "jax", "us": us, "spread_us": spread}) + "\n")


main()
