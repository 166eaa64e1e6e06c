"""The work of `benches/cuda` in JAX, jitted, on the same GPU.

    benches/cuda --list > cases.jsonl
    gpu_jax.py --cases cases.jsonl [--json FILE] [--few] [--below N] [NAME...]

A case is called once and several times in a row, on operands that take turns, each time until the last result is there; its time is the
difference by the number of further calls, the median over the repetitions. Precision is that of the case, as `gpu.py` has it."""
import argparse, json, math, statistics, sys, time

import jax
import jax.numpy as jnp

from steps import jax_step

COPIES, BUDGET = 11, 1.5e6  # as benches/cuda
KEY = jax.random.key(1)
PRECISIONS = {"f32": "highest", "tf32": "tensorfloat32", "bf16": "bfloat16"}


def uniform(*shape, dtype=jnp.float32):
    return jax.random.uniform(KEY, shape, minval=-1.0, maxval=1.0).astype(dtype)


def of(f, size, *shapes, dtype=jnp.float32, differentiate=0):
    """f on operands of these shapes, `size` bytes of them in turn; with `differentiate`, the gradient in that many of them."""
    turns = max(1, min(COPIES, -(-(120 << 20) // max(size, 1))))
    operands = [tuple(uniform(*shape, dtype=dtype) for shape in shapes) for _ in range(turns)]
    f = jax.jit(jax.grad(f, argnums=tuple(range(differentiate))) if differentiate else f)
    return lambda i: f(*operands[i % turns])


# ------------------------------------------------------------------ the work, by id: f(shape, dtype, words of the id)


def elementwise(f):
    return lambda shape, dtype, _: of(f, 8 * math.prod(shape), shape, dtype=dtype)


def reduction(shape, dtype, words):
    axes = {"all": (0, 1), "rows": (1,), "columns": (0,)}[words[1]]
    return of(lambda x: x.sum(axes) if words[0] == "sum" else x.var(axes), 4 * math.prod(shape), shape, dtype=dtype)


def product(shape, dtype, words):
    m, k, n = shape
    a, b = words[1]
    f = lambda x, y: (x.T if a == "t" else x) @ (y.T if b == "t" else y)
    size = (m * k + k * n + m * n) * jnp.dtype(dtype).itemsize
    return of(f, size, (k, m) if a == "t" else (m, k), (n, k) if b == "t" else (k, n), dtype=dtype)


def linear(shape, dtype, words):
    rows, inputs, outputs = shape
    masked = lambda g, y: jnp.where(y > 0, g, 0)
    f = {"forward": lambda x, w, b, g, y: jax.nn.relu(x @ w.T + b), "dx": lambda x, w, b, g, y: masked(g, y) @ w,
         "dw": lambda x, w, b, g, y: (masked(g, y).T @ x, masked(g, y).sum(0))}[words[1]]
    size = (rows * inputs + inputs * outputs + rows * outputs) * jnp.dtype(dtype).itemsize
    return of(f, size, (rows, inputs), (outputs, inputs), (outputs,), (rows, outputs), (rows, outputs), dtype=dtype)


def convolution(shape, dtype, words):
    """With the channels last."""
    images, channels, side, filters, window, stride = shape
    transposed, padding = words[1] == "transpose2d", (window - 1) // 2
    result = side * stride if transposed else -(-side // stride)
    dims = ("NHWC", "HWIO", "NHWC")
    if transposed:
        # the gradient of the convolution that leads back
        conv = lambda x, w: jax.lax.conv_transpose(x, w, (stride, stride), "SAME", dimension_numbers=dims)
    else:
        conv = lambda x, w: jax.lax.conv_general_dilated(x, w, (stride, stride), ((padding, padding),) * 2, dimension_numbers=dims)
    x, w, g = (images, side, side, channels), (window, window, channels, filters), (images, result, result, filters)
    size = (math.prod(x) + math.prod(w) + math.prod(g)) * jnp.dtype(dtype).itemsize
    f = {"forward": lambda x, w, b, g: conv(x, w) + b, "dx": lambda x, w, b, g: jax.vjp(lambda x: conv(x, w), x)[1](g),
         "dw": lambda x, w, b, g: (jax.vjp(lambda w: conv(x, w), w)[1](g), g.sum((0, 1, 2)))}[words[-1]]
    return of(f, size, x, w, (filters,), g, dtype=dtype)


def bottleneck(shape, dtype, words):
    rows, latent = shape
    backward = words[-1] != "forward"

    def f(x):
        mean, raw = jnp.split(x, 2, axis=1)
        sigma = jax.nn.softplus(raw - 5)
        z = mean + sigma * jax.random.normal(KEY, mean.shape, dtype)
        kl = 0.5 * (mean**2 + sigma**2 - 1 - 2 * jnp.log(sigma)).sum(1)
        return z.sum() + kl.mean() if backward else (z, kl)
    return of(f, 8 * rows * latent * jnp.dtype(dtype).itemsize, (rows, 2 * latent), dtype=dtype, differentiate=int(backward))


def cross_entropy(shape, dtype, words):
    rows, classes = shape
    target = jnp.arange(rows) * 7 % classes
    f = lambda x: -jnp.take_along_axis(jax.nn.log_softmax(x), target[:, None], 1).mean()
    return of(f, 3 * rows * classes * jnp.dtype(dtype).itemsize, shape, dtype=dtype, differentiate=int(words[-1] != "forward"))


def batch_norm(shape, dtype, words):
    """With the channels last."""
    n, c, h, w = shape
    backward = words[-1] != "forward"

    def f(x, weight, bias):
        mean = x.mean((0, 1, 2))
        y = (x - mean) * (jax.lax.rsqrt(((x - mean) ** 2).mean((0, 1, 2)) + 1e-5) * weight) + bias
        return (y**3).sum() if backward else y
    return of(f, 5 * math.prod(shape) * jnp.dtype(dtype).itemsize, (n, h, w, c), (c,), (c,), dtype=dtype, differentiate=3 if backward else 0)


def mmd2(shape, dtype, words):
    """In the matrix form."""
    n, m, d = shape
    scales = [s * 2 * d for s in ((0.1, 0.2, 0.5, 1, 2, 5, 10) if words[1] == "imq7" else (1,))]
    kernel = (lambda u: jnp.exp(-u / (2 * d * d))) if words[1] == "rbf" else (lambda u: sum(s / (s + u) for s in scales))

    def mean(x, y, same):
        k = kernel(jnp.maximum((x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T, 0))
        return (k.sum() - jnp.trace(k)) / (len(x) * (len(x) - 1)) if same and "unbiased" in words else k.mean()

    f = lambda x, y: mean(x, x, True) - 2 * mean(x, y, False) + mean(y, y, True)
    return of(f, (2 * n + m) * d * jnp.dtype(dtype).itemsize, (n, d), (m, d), dtype=dtype, differentiate=int("forward" not in words))


def adam(shape, dtype, words):
    """On one tensor."""
    gradient, zeros = uniform(*shape), jnp.zeros(shape)

    def step(state):
        w, m, v, t = state
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        return w - 1e-3 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v, t + 1

    step, box = jax.jit(step, donate_argnums=0), [(uniform(*shape), zeros, zeros + 0, jnp.float32(1))]

    def run(_):
        box[0] = step(box[0])
        return box[0]
    return run


BUILD = {
    "copy": elementwise(lambda x: x + 0), "exp": elementwise(jnp.exp), "tanh": elementwise(jnp.tanh), "softplus": elementwise(jax.nn.softplus),
    "normals": elementwise(lambda x: jax.random.normal(KEY, x.shape)), "sum": reduction, "variance": reduction, "linear": linear,
    "matmul": product, "bottleneck": bottleneck, "cross": cross_entropy, "batch": batch_norm, "mmd2": mmd2, "conv": convolution, "adam": adam,
}


def build(name, shape, kind):
    """What is called, or None if it is not written here."""
    if name.endswith("_step"):
        step = jax_step(name.removesuffix("_step"), shape)
        return lambda _: step()
    words = name.replace("conv2d", "conv_2d").split("_")
    if words[0] == "adam" and len(words) > 1:
        return None
    return BUILD[words[0]](shape, jnp.bfloat16 if kind == "bf16" else jnp.float32, words)


def measure(run, most):
    """Microseconds of one call."""
    def elapsed(copies):
        start = time.perf_counter()
        for i in range(copies):
            last = run(i)
        jax.block_until_ready(last)
        return (time.perf_counter() - start) * 1e6
    elapsed(COPIES)
    once = elapsed(1)
    copies = 2 if once > BUDGET / 100 else COPIES
    repetitions = max(3, min(most, int(BUDGET / (once * (copies + 1)))))
    times = sorted((elapsed(copies) - elapsed(1)) / (copies - 1) for _ in range(repetitions))
    return statistics.median(times), (times[3 * len(times) // 4] - times[len(times) // 4]) / 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", required=True)
    parser.add_argument("--json")
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--below", type=float, default=math.inf)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    out = open(options.json, "w") if options.json else None
    for line in open(options.cases):
        case = json.loads(line)
        name, shape, kind = case["id"], case["shape"], case["dtype"]
        if kind == "f32x3" or "accuracy" in name or math.prod(shape) >= options.below:
            continue
        if options.names and not any(name.startswith(n) for n in options.names):
            continue
        label = "x".join(map(str, shape))
        with jax.default_matmul_precision(PRECISIONS[kind]):
            try:
                run = build(name, shape, kind)
                if run is None:
                    continue
                us, spread = measure(run, 3 if options.few else 30)
            except Exception as error:  # one that has no memory is left out, not the others
                print(f"{name} {label} {kind}: {type(error).__name__}: {error}", file=sys.stderr)
                continue
        print(f"{name:28} {label:>22} {kind:>5} {'jit':>10} {us:12.2f} {spread / us * 100:6.1f}%", flush=True)
        if out:
            out.write(json.dumps({"id": name, "shape": label, "dtype": kind, "peer": "jax", "us": us, "spread_us": spread}) + "\n")


main()
