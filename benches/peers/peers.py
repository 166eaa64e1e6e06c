"""The peers of `compare.py`: the work of `benches/tasks` in PyTorch and JAX, and a process that answers the commands of `ours.rs`.

    peers.py CONTESTANT THREADS
"""
import json, math, os, re, sys, time

from families import STEPS
from operands import labels, values
from steps import jax_step, torch_step

CONTESTANTS = ["strait", "torch", "torch+", "torch.compile", "jax"]
WORK = [*STEPS, "adam_2.4M", "matmul_128", "matmul_512", "matmul_1024", "matmul_2048", "layer_forward", "layer_dx",
        "layer_dw", "exp_10M", "tanh_10M", "softplus_10M", "sum_10M", "logsumexp_10000x1000", "normals_10M",
        "linear_relu_forward_backward", "cross_entropy_forward_backward", "mmd2_n1024_d64", "mmd2_n4096_d64", "conv2d_forward",
        "conv2d_forward_backward"]
TRAINING = set(STEPS)
TUNED = TRAINING | {"adam_2.4M", "exp_10M", "tanh_10M", "normals_10M", "conv2d_forward", "conv2d_forward_backward"}
TUNED |= {w for w in WORK if w.startswith(("matmul", "layer"))}  # those for which torch+ differs from torch
COMPILED = {"vib_b100", "vib_b1000", "exp_10M", "tanh_10M", "softplus_10M", "sum_10M", "logsumexp_10000x1000", "mmd2_n1024_d64",
            "mmd2_n4096_d64", "cross_entropy_forward_backward"}
UNCHECKED = {"normals_10M"} | TRAINING  # other random numbers; the steps are checked with fixed noise
FIXED = {f"{name}_fixed_noise" for name in TRAINING}

# ------------------------------------------------------------------ operands


def layers(sizes, salt):
    """[weight [out, in], bias] of affine layers, Xavier uniform."""
    return [[values((b, a), salt + 2 * i, math.sqrt(6 / (a + b))), values((b,), salt + 2 * i + 1, 0.0)]
            for i, (a, b) in enumerate(zip(sizes, sizes[1:]))]


ENCODER, DECODER = (784, 1024, 1024, 512), (256, 10)


def vib_layers():
    return layers(ENCODER, 100) + layers(DECODER, 106)


def adam_gradients():
    return [values(p.shape, 600 + i, 0.01) for i, p in enumerate(a for layer in vib_layers() for a in layer)]


IMAGES, FILTERS = (32, 64, 32, 32), (64, 64, 3, 3)
ELEMENTWISE = {"exp_10M": "exp", "tanh_10M": "tanh", "softplus_10M": "softplus", "sum_10M": "sum", "logsumexp_10000x1000": "logsumexp"}
PRODUCTS = {f"matmul_{n}": ((n, n), False, (n, n), False) for n in (128, 512, 1024, 2048)}  # shape, transposed, shape, transposed
PRODUCTS |= {"layer_forward": ((100, 784), False, (1024, 784), True), "layer_dx": ((100, 1024), False, (1024, 784), False),
             "layer_dw": ((100, 1024), True, (100, 784), False)}


class Call:
    """f() again and again; `figures(out)` gives what is compared."""

    def __init__(self, f, sync=lambda out: out, figures=None):
        self.f, self.sync, self.figures, self.out = f, sync, figures, None

    def run(self, count):
        for _ in range(count):
            self.out = self.sync(self.f())

    def check(self):
        import numpy as np

        if self.figures:
            return self.figures(self.out)
        outs = self.out if isinstance(self.out, (tuple, list)) else [self.out]
        return [float(np.abs(np.asarray(getattr(o, "detach", lambda o=o: o)()).astype(np.float64)).sum()) for o in outs]


# ------------------------------------------------------------------ PyTorch


def torch_call(name, tuned, compiled):
    import torch as t
    import torch.nn.functional as F

    put = lambda a: t.from_numpy(a.copy())
    leaf = lambda a: put(a).requires_grad_()
    jit = t.compile if compiled else lambda f: f
    t._dynamo.reset() if compiled else None

    if name.removesuffix("_fixed_noise") in STEPS:
        family, *sizes = STEPS[name.removesuffix("_fixed_noise")]
        step = torch_step(family, sizes, tuned or compiled, name in FIXED, compiled=compiled)
        return Call(step, lambda losses: [loss.item() for loss in losses], lambda losses: losses)
    if name == "adam_2.4M":
        params = [leaf(a) for layer in vib_layers() for a in layer]
        for p, g in zip(params, adam_gradients()):
            p.grad = put(g)
        optimizer = t.optim.Adam(params, 1e-4, fused=True) if tuned else t.optim.Adam(params, 1e-4)
        return Call(optimizer.step, figures=lambda _: [float(p.detach().double().abs().sum()) for p in params])
    if name in PRODUCTS:
        a, at, b, bt = PRODUCTS[name]
        a, b = put(values(a, 1)), put(values(b, 2))
        a, b = (a.T if at else a), (b.T if bt else b)
        out = a @ b
        return Call(lambda: t.mm(a, b, out=out)) if tuned else Call(lambda: a @ b)
    if name in ELEMENTWISE:
        x, kind = put(values((10_000, 1000), 1, 4.0)), ELEMENTWISE[name]
        if tuned:
            out, g = t.empty_like(x), getattr(t, kind)
            return Call(lambda: g(x, out=out))
        g = {"softplus": F.softplus, "sum": t.sum, "logsumexp": lambda x: t.logsumexp(x, 1)}.get(kind) or getattr(t, kind)
        g = jit(lambda x: g0(x)) if (g0 := g) else None
        return Call(lambda: g(x))
    if name == "normals_10M":
        out = t.empty(10_000, 1000)
        return Call(out.normal_) if tuned else Call(lambda: t.randn(10_000, 1000))
    if name == "linear_relu_forward_backward":
        x, w, b = leaf(values((100, 1024), 1)), leaf(values((1024, 1024), 2, 0.05)), leaf(values((1024,), 3, 0.05))
        return Call(lambda: t.autograd.grad(F.relu(F.linear(x, w, b)).sum(), (x, w, b)))
    if name == "cross_entropy_forward_backward":
        x, y = leaf(values((1000, 1000), 1, 4.0)), put(labels(1000, 1000, 2))
        loss_of = jit(F.cross_entropy)

        def f():
            loss = loss_of(x, y)
            return loss.detach(), t.autograd.grad(loss, x)[0]

        return Call(f)
    if name.startswith("mmd2"):
        n = int(name.split("_")[1][1:])
        x, y = leaf(values((n, 64), 1)), put(values((n, 64), 2) + values((1,), 0, 0.0) + 0.125)
        k = lambda a, b: t.exp(((a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T)).clamp(min=0) * (-0.5 / 64)).mean()
        value_of = jit(lambda x, y: k(x, x) + k(y, y) - 2 * k(x, y))

        def f():
            value = value_of(x, y)
            return value.detach(), t.autograd.grad(value, x)[0]

        return Call(f)
    last = lambda a: put(a).contiguous(memory_format=t.channels_last) if tuned else put(a)
    x, w, g = last(values(IMAGES, 1)), last(values(FILTERS, 2)), last(values(IMAGES, 3))
    if name == "conv2d_forward":
        return Call(lambda: F.conv2d(x, w, padding=1))
    x.requires_grad_(), w.requires_grad_()
    return Call(lambda: t.autograd.grad(F.conv2d(x, w, padding=1), (x, w), g))


# ------------------------------------------------------------------ JAX


def jax_call(name):
    import jax
    import jax.numpy as jnp

    put, sync = jnp.asarray, jax.block_until_ready
    if name.removesuffix("_fixed_noise") in STEPS:
        family, *sizes = STEPS[name.removesuffix("_fixed_noise")]
        return Call(jax_step(family, sizes, name in FIXED), lambda losses: [float(loss) for loss in losses], lambda losses: losses)

    def adam(state, grads):
        params, ms, vs, step = state
        step = step + 1
        ms = [0.9 * m + 0.1 * g for m, g in zip(ms, grads)]
        vs = [0.999 * v + 0.001 * g * g for v, g in zip(vs, grads)]
        s1, s2 = 1e-4 / (1 - 0.9**step), 1 - 0.999**step
        params = [p - s1 * m / (jnp.sqrt(v / s2) + 1e-8) for p, m, v in zip(params, ms, vs)]
        return params, ms, vs, step

    # Weights are [in, out], as is usual in JAX.
    start = lambda: [put(a.T if a.ndim == 2 else a) for layer in vib_layers() for a in layer]
    fresh = lambda params: (params, [jnp.zeros_like(p) for p in params], [jnp.zeros_like(p) for p in params], jnp.float32(0))
    if name == "adam_2.4M":
        grads = [put(g.T if g.ndim == 2 else g) for g in adam_gradients()]
        update, box = jax.jit(adam, donate_argnums=0), [fresh(start())]

        def f():
            box[0] = update(box[0], grads)
            return box[0]

        return Call(f, sync, lambda _: [float(jnp.abs(p).sum()) for p in box[0][0]])
    if name in PRODUCTS:
        a, at, b, bt = PRODUCTS[name]
        f = jax.jit(lambda a, b: (a.T if at else a) @ (b.T if bt else b))
        a, b = put(values(a, 1)), put(values(b, 2))
        return Call(lambda: f(a, b), sync)
    if name in ELEMENTWISE:
        x, kind = put(values((10_000, 1000), 1, 4.0)), ELEMENTWISE[name]
        g = {"softplus": jax.nn.softplus, "logsumexp": lambda x: jax.nn.logsumexp(x, axis=1)}.get(kind) or getattr(jnp, kind)
        g = jax.jit(g)
        return Call(lambda: g(x), sync)
    if name == "normals_10M":
        f, key = jax.jit(lambda key: jax.random.normal(key, (10_000, 1000))), jax.random.key(0)
        return Call(lambda: f(key), sync)
    if name == "linear_relu_forward_backward":
        x, w, b = put(values((100, 1024), 1)), put(values((1024, 1024), 2, 0.05)), put(values((1024,), 3, 0.05))
        f = jax.jit(jax.grad(lambda x, w, b: jax.nn.relu(x @ w.T + b).sum(), (0, 1, 2)))
        return Call(lambda: f(x, w, b), sync)
    if name == "cross_entropy_forward_backward":
        x, y = put(values((1000, 1000), 1, 4.0)), put(labels(1000, 1000, 2).astype("int32"))
        f = jax.jit(jax.value_and_grad(lambda x, y: -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()))
        return Call(lambda: f(x, y), sync)
    if name.startswith("mmd2"):
        n = int(name.split("_")[1][1:])
        x, y = put(values((n, 64), 1)), put(values((n, 64), 2) + values((1,), 0, 0.0) + 0.125)
        d2 = lambda a, b: jnp.maximum((a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T), 0)
        k = lambda a, b: jnp.exp(d2(a, b) * (-0.5 / 64)).mean()
        f = jax.jit(jax.value_and_grad(lambda x, y: k(x, x) + k(y, y) - 2 * k(x, y)))
        return Call(lambda: f(x, y), sync)
    nhwc = lambda a: put(a.transpose(0, 2, 3, 1))
    x, g, w = nhwc(values(IMAGES, 1)), nhwc(values(IMAGES, 3)), put(values(FILTERS, 2).transpose(2, 3, 1, 0))
    conv = lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    if name == "conv2d_forward":
        f = jax.jit(conv)
        return Call(lambda: f(x, w), sync)
    f = jax.jit(lambda x, w, g: jax.vjp(conv, x, w)[1](g))
    return Call(lambda: f(x, w, g), sync)


# ------------------------------------------------------------------ a peer's process: the commands of ours.rs


def make(who, name):
    if who == "jax":
        return jax_call(name)
    return torch_call(name, who == "torch+", who == "torch.compile")


def peer(who, threads):
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print
    if who == "jax":
        import jax  # noqa: F401
    else:
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)
    call, cpu = None, time.process_time
    for line in sys.stdin:
        command, *args = line.split()
        try:
            if command == "build":
                call = None
                call = make(who, args[0])
                call.run(1)
                reply = dict(check=call.check())
            elif command == "run":
                call.run(int(args[0]))
                reply = dict(check=call.check())
            else:
                burst, seconds = int(args[0]), float(args[1])
                call.run(burst)
                ms, start, used = [], time.perf_counter(), cpu()
                while not ms or time.perf_counter() - start < seconds:
                    t = time.perf_counter()
                    call.run(burst)
                    ms.append((time.perf_counter() - t) / burst * 1e3)
                reply = dict(ms=ms, wall=time.perf_counter() - start, cpu=cpu() - used)
        except Exception as e:
            reply = dict(error=re.sub(r"(/[\w.+-]+)+/", "", f"{type(e).__name__}: {e}").split("\n")[0][:200])  # without paths
        pipe.write(json.dumps(reply) + "\n")
        pipe.flush()


if __name__ == "__main__":
    peer(sys.argv[1], int(sys.argv[2]))
