"""Training steps of the models of `families.py` in PyTorch and JAX, on a CPU or a GPU."""
import functools, math

from families import DUAL_STEP, FAMILIES, SPREAD, TARGET
from operands import POOL, values


# ------------------------------------------------------------------ parameters, in PyTorch's layout


def weights(layers, salt):
    """One list of arrays per layer, and the salt after them: as `Trained::new` makes them."""
    import numpy as np

    out = []
    for kind, a, b, *_ in layers:
        if kind == "norm":
            arrays = [np.ones(a, np.float32), np.zeros(a, np.float32)]
        else:
            shape = {"linear": (b, a), "conv": (b, a, 4, 4)}.get(kind, (a, b, 4, 4))
            arrays = [values(shape, salt, math.sqrt(6 / ((a + b) * math.prod(shape[2:]))))]
            if kind != "up without bias":  # a batch norm follows
                arrays.append(np.zeros(b, np.float32))
        salt += len(arrays)
        out.append(arrays)
    return out, salt


def to_jax_layout(layer, arrays):
    """Weights [in, out] and [kh, kw, in, out], and images with their channels last."""
    import numpy as np

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
        w = w.transpose(2, 3, 1, 0)
    else:
        w = w[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)
    return [np.ascontiguousarray(w), *arrays[1:]]


# ------------------------------------------------------------------ the two interfaces


class Torch:
    def __init__(self, tuned, fixed, device="cpu"):
        import torch
        import torch.nn.functional as F

        self.t, self.F, self.tuned, self.fixed, self.device = torch, F, tuned, fixed, device
        self.relu, self.tanh, self.softplus, self.exp, self.log, self.cat = F.relu, torch.tanh, F.softplus, torch.exp, torch.log, torch.cat
        self.images, self.cross_entropy = self.array, F.cross_entropy

    def array(self, a):
        t = self.t.from_numpy(a.copy()).to(self.device)
        return t.contiguous(memory_format=self.t.channels_last) if self.tuned and t.dim() == 4 else t

    def params(self, layers, arrays):
        return [[self.array(a).requires_grad_() for a in layer] for layer in arrays]

    def normal(self, shape, salt):
        return self.array(values(shape, salt, SPREAD)) if self.fixed else self.t.randn(shape, device=self.device)

    def stop(self, x):
        return x.detach()

    def linear(self, x, p):
        return self.F.linear(x, *p)

    def conv(self, x, p):
        return self.F.conv2d(x, *p, stride=2, padding=1)

    def up(self, x, p):
        return self.F.conv_transpose2d(x, *p, stride=2, padding=1)

    def norm(self, x, p):
        return self.F.batch_norm(x, None, None, *p, training=True)

    def leaky(self, x):
        return self.F.leaky_relu(x, 0.2)

    def flatten(self, x):
        return x.flatten(1)

    def to_map(self, x, c, h, w):
        x = x.view(-1, c, h, w)
        return x.contiguous(memory_format=self.t.channels_last) if self.tuned else x

    def bernoulli(self, logits, target):
        return self.F.binary_cross_entropy_with_logits(logits, target, reduction="sum")

    def positive(self, x):
        return x.clamp(min=0)

    def input_grad(self, f, x):
        """f(x) gives values and something besides: both, and the gradient of the values' sum, which can be differentiated."""
        x = x.detach().requires_grad_()
        v, other = f(x)
        return v, other, self.t.autograd.grad(v.sum(), x, create_graph=True)[0]


class Jax:
    def __init__(self, fixed, key=None):
        import jax
        import jax.numpy as jnp

        self.j, self.np, self.fixed, self.key = jax, jnp, fixed, key
        self.relu, self.tanh, self.softplus, self.exp, self.log = jax.nn.relu, jnp.tanh, jax.nn.softplus, jnp.exp, jnp.log
        self.cat, self.stop, self.array = jnp.concatenate, jax.lax.stop_gradient, jnp.asarray

    def images(self, a):
        return self.array(a.transpose(0, 2, 3, 1))

    def cross_entropy(self, logits, target):
        return -self.np.take_along_axis(self.j.nn.log_softmax(logits), target[:, None], 1).mean()

    def params(self, layers, arrays):
        return [[self.array(a) for a in to_jax_layout(s, l)] for s, l in zip(layers, arrays)]

    def normal(self, shape, salt):
        if self.fixed:
            return self.array(values(shape, salt, SPREAD))
        self.key, sub = self.j.random.split(self.key)
        return self.j.random.normal(sub, shape)

    def linear(self, x, p):
        return x @ p[0] + p[1]

    def conv(self, x, p):
        dims = ("NHWC", "HWIO", "NHWC")
        return self.j.lax.conv_general_dilated(x, p[0], (2, 2), ((1, 1), (1, 1)), dimension_numbers=dims) + p[1]

    def up(self, x, p):
        y = self.j.lax.conv_transpose(x, p[0], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + p[1] if len(p) == 2 else y

    def norm(self, x, p):
        mean = x.mean((0, 1, 2))
        variance = ((x - mean) ** 2).mean((0, 1, 2))
        return (x - mean) * (self.j.lax.rsqrt(variance + 1e-5) * p[0]) + p[1]

    def leaky(self, x):
        return self.j.nn.leaky_relu(x, 0.2)

    def flatten(self, x):
        return x.reshape(x.shape[0], -1)

    def to_map(self, x, c, h, w):
        return x.reshape(-1, h, w, c)

    def bernoulli(self, logits, target):
        return (self.softplus(logits) - logits * target).sum()

    def positive(self, x):
        return self.np.maximum(x, 0)

    def input_grad(self, f, x):
        v, back, other = self.j.vjp(f, x, has_aux=True)
        return v, other, back(self.np.ones_like(v))[0]


# ------------------------------------------------------------------ steps


def prepare(B, family, sizes):
    data, nets, losses, rate, decays = FAMILIES[family](*sizes)
    put = lambda a: B.images(a) if a.ndim == 4 else B.array(a)
    pool, P = [{k: put(v) for k, v in d.items()} for d in data()], {}
    for _, trained, salt in losses:
        for k in trained:
            arrays, salt = weights(nets[k], salt)
            P[k] = B.params(nets[k], arrays)
    return pool, P, losses, rate, decays


def turns_of(losses):
    """For each loss, how many of its kind a step has, and which of them it is."""
    kinds = [trained for _, trained, _ in losses]
    return [(kinds.count(k), kinds[:i].count(k)) for i, k in enumerate(kinds)]


def torch_step(family, sizes, tuned=False, fixed=False, device="cpu", compiled=False, autocast=False):
    """A function that makes one step and gives its losses as tensors. Tuned: the fused Adam, images with their channels last."""
    B = Torch(tuned, fixed, device)
    t = B.t
    pool, P, losses, rate, decays = prepare(B, family, sizes)
    frozen = {k: [[a.detach() for a in layer] for layer in v] for k, v in P.items()}
    beta, count, todo, optimizers = t.tensor(0.1, device=device), iter(range(1 << 60)), [], {}
    # eager on a GPU: foreach, and a step that can be captured
    how = {"fused": True} if tuned else {"foreach": True} if device == "cuda" else {}
    for (loss, trained, _), turn in zip(losses, turns_of(losses)):
        leaves = [a for k in trained for layer in P[k] for a in layer]
        nets = {k: P[k] if k in trained else frozen[k] for k in P}
        optimizer = optimizers.setdefault(trained, None) or t.optim.Adam(leaves, rate, decays, capturable=device == "cuda", **how)
        optimizers[trained] = optimizer
        loss = functools.partial(loss, B, nets)
        todo.append((t.compile(loss) if compiled else loss, optimizer, turn))

    def step():
        i, out = next(count), {}
        for loss_of, optimizer, (many, which) in todo:
            with t.autocast(device, t.bfloat16, enabled=autocast):
                loss, kl = loss_of(pool[(many * i + which) % POOL], beta)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if kl is not None:
                with t.no_grad():
                    beta.add_(DUAL_STEP * (kl - TARGET)).clamp_(min=0)
            out[id(optimizer)] = loss.detach()
        return list(out.values())

    return step


def jax_step(family, sizes, fixed=False):
    """A function that makes one step, all of it compiled, and gives its losses as arrays."""
    B = Jax(fixed)
    jax, jnp = B.j, B.np
    pool, P, losses, rate, (b1, b2) = prepare(B, family, sizes)
    zeros = lambda: jax.tree.map(jnp.zeros_like, P)
    turns, calls = turns_of(losses), iter(range(1 << 60))
    clocks = {trained: jnp.float32(0) for _, trained, _ in losses}
    box = [(P, zeros(), zeros(), clocks, jnp.float32(0.1), jax.random.key(0))]

    @functools.partial(jax.jit, donate_argnums=0)
    def whole(state, batches):
        P, M, V, clocks, beta, key = state
        P, M, V, clocks, out = dict(P), dict(M), dict(V), dict(clocks), {}
        for (loss_of, trained, _), d in zip(losses, batches):
            key, sub = jax.random.split(key)
            clocks[trained] = time = clocks[trained] + 1
            s1, s2 = rate / (1 - b1**time), 1 - b2**time
            f = lambda q: loss_of(Jax(fixed, sub), {**P, **q}, d, beta)
            (loss, kl), g = jax.value_and_grad(f, has_aux=True)({k: P[k] for k in trained})
            for k in trained:
                M[k] = jax.tree.map(lambda m, a: b1 * m + (1 - b1) * a, M[k], g[k])
                V[k] = jax.tree.map(lambda v, a: b2 * v + (1 - b2) * a * a, V[k], g[k])
                P[k] = jax.tree.map(lambda p, m, v: p - s1 * m / (jnp.sqrt(v / s2) + 1e-8), P[k], M[k], V[k])
            if kl is not None:
                beta = jnp.maximum(0, beta + DUAL_STEP * (kl - TARGET))
            out[trained] = loss
        return (P, M, V, clocks, beta, key), list(out.values())

    def step():
        i = next(calls)
        box[0], out = whole(box[0], [pool[(many * i + which) % POOL] for many, which in turns])
        return out

    return step
