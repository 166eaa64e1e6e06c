"""The training steps of VDB, VGAN, InfoVAE and the energy model in PyTorch and JAX: each loss is written once, against a small
interface that both have. Sizes, batches and noise are those of `benches/tasks/steps`.
"""
import functools, math

from operands import POOL, values

SPREAD, TARGET, DUAL_STEP, GAMMA = 1.75, 0.5, 1e-3, 10.0  # uniform noise in checks; I_c; the ascent of beta; R1

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


def mlp(*sizes):
    return [("linear", a, b) for a, b in zip(sizes, sizes[1:])]


# ------------------------------------------------------------------ the two interfaces


class Torch:
    def __init__(self, tuned, fixed):
        import torch
        import torch.nn.functional as F

        self.t, self.F, self.tuned, self.fixed = torch, F, tuned, fixed
        self.relu, self.tanh, self.softplus, self.exp, self.cat, self.images = F.relu, torch.tanh, F.softplus, torch.exp, torch.cat, self.array

    def array(self, a):
        t = self.t.from_numpy(a.copy())
        return t.contiguous(memory_format=self.t.channels_last) if self.tuned and t.dim() == 4 else t

    def params(self, layers, arrays):
        return [[self.array(a).requires_grad_() for a in layer] for layer in arrays]

    def normal(self, shape, salt):
        return self.array(values(shape, salt, SPREAD)) if self.fixed else self.t.randn(shape)

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
        self.relu, self.tanh, self.softplus, self.exp = jax.nn.relu, jnp.tanh, jax.nn.softplus, jnp.exp
        self.cat, self.stop, self.array = jnp.concatenate, jax.lax.stop_gradient, jnp.asarray

    def images(self, a):
        return self.array(a.transpose(0, 2, 3, 1))

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


# ------------------------------------------------------------------ losses: each gives itself, and the rate if beta follows it


def net(B, layers, x, act):
    for p in layers[:-1]:
        x = act(B.linear(x, p))
    return B.linear(x, layers[-1])


def halves(h):
    k = h.shape[1] // 2
    return h[:, :k], h[:, k:]


def kernel(B, x, y):
    squares = (x * x).sum(1)[:, None] + (y * y).sum(1)[None, :] - 2 * (x @ y.T)
    return B.exp(B.positive(squares) * (-0.5 / x.shape[1]))


def infovae(B, P, d, beta, encode, decode):
    x = d["x"]
    mu, logvar = halves(encode(B, P["encoder"], x))
    z = mu + B.exp(0.5 * logvar) * B.normal(mu.shape, 500)
    prior = B.normal(z.shape, 501)
    rate = 0.5 * (mu * mu + B.exp(logvar) - logvar - 1).sum(1).mean()
    mmd = kernel(B, z, z).mean() + kernel(B, prior, prior).mean() - 2 * kernel(B, z, prior).mean()
    return B.bernoulli(decode(B, P["decoder"], z), x) / x.shape[0] + rate + 9.0 * mmd, None


def conv_encode(B, layers, x, act):
    for p in layers[:-1]:
        x = act(B.conv(x, p))
    return B.linear(B.flatten(x), layers[-1])


def conv_decode(B, layers, z):
    h = B.to_map(B.relu(B.linear(z, layers[0])), 128, 4, 4)
    for p in layers[1:-1]:
        h = B.relu(B.up(h, p))
    return B.up(h, layers[-1])


def mlp_critic(B, P, x):
    return halves(net(B, P["critic"], x, B.leaky))


def conv_critic(B, P, x):
    return halves(conv_encode(B, P["critic"], x, B.leaky))


def mlp_generator(B, P, z):
    return B.tanh(net(B, P["generator"], z, B.relu))


def dcgan_generator(B, P, z):
    g = P["generator"]
    h = B.relu(B.norm(B.to_map(B.linear(z, g[0]), 256, 4, 4), g[1]))
    h = B.relu(B.norm(B.up(h, g[2]), g[3]))
    h = B.relu(B.norm(B.up(h, g[4]), g[5]))
    return B.tanh(B.up(h, g[6]))


def judge(B, P, critic, x, noise):
    """Logits of sampled codes, and the mean rate."""
    mu, raw = critic(B, P, x)
    sigma = B.exp(raw)
    rate = 0.5 * (mu * mu + sigma * sigma - 2 * raw - 1).sum(1).mean()
    return B.linear(mu + sigma * noise, P["head"][0])[:, 0], rate


def discriminator(B, P, d, beta, critic=mlp_critic, generator=None, latent=0, code=8, r1=False):
    real, n = d["x"], d["x"].shape[0]
    fake = d["fake"] if generator is None else B.stop(generator(B, P, B.normal((n, latent), 501)))
    noise, penalty = B.normal((2 * n, code), 500), 0.0
    if r1:
        of_real, rate_real, slope = B.input_grad(lambda x: judge(B, P, critic, x, noise[:n]), real)
        of_fake, rate_fake = judge(B, P, critic, fake, noise[n:])
        rate, penalty = 0.5 * (rate_real + rate_fake), 0.5 * GAMMA * (slope * slope).sum() / n
    else:
        logits, rate = judge(B, P, critic, B.cat([real, fake]), noise)
        of_real, of_fake = logits[:n], logits[n:]
    game = B.softplus(-of_real).mean() + B.softplus(of_fake).mean()
    return game + beta * (rate - TARGET) + penalty, B.stop(rate)


def player(B, P, d, beta, critic, generator, latent):
    mu, _ = critic(B, P, generator(B, P, B.normal((d["x"].shape[0], latent), 502)))  # the mean, as in the paper
    return B.softplus(-B.linear(mu, P["head"][0])).mean(), None


def energy_loss(B, P, d, beta):
    fake = B.stop(net(B, P["generator"], B.normal((d["x"].shape[0], 2), 501), B.relu))
    energy = lambda x: net(B, P["energy"], x, B.leaky)[:, 0]
    real, _, slope = B.input_grad(lambda x: (energy(x), 0.0 * x[0, 0]), d["x"])
    return real.mean() - energy(fake).mean() + 0.1 * (slope * slope).sum(1).mean(), None


def energy_player(B, P, d, beta):
    z = B.normal((d["x"].shape[0], 2), 502)
    x = net(B, P["generator"], z, B.relu)
    back = net(B, P["inverse"], x, B.leaky)
    return net(B, P["energy"], x, B.leaky).mean() + ((z - back) ** 2).sum(1).mean(), None


# ------------------------------------------------------------------ the list

MAP128, MAP256 = (128, 4, 4), (256, 4, 4)


def pictures(batch, shape, scale, shift=0.0):
    return [{"x": values((batch, *shape), 300 + i, scale) + values((1,), 0, 0.0) + shift} for i in range(POOL)]


def two_sides():
    import numpy as np

    point = lambda salt, x: values((256, 2), salt, 0.75) + np.float32([x, 0])
    return [{"x": point(300 + i, 1.5), "fake": point(400 + i, -1.5)} for i in range(POOL)]


def vgan(critic, generator, latent, nets, data):
    def of(r1):
        losses = [(functools.partial(discriminator, critic=critic, generator=generator, latent=latent, code=64, r1=r1), ("critic", "head"), 100),
                  (functools.partial(player, critic=critic, generator=generator, latent=latent), ("generator",), 200)]
        return data, nets, losses, 1e-4, (0.5, 0.999)

    return of(True), of(False)


VGAN_MLP = vgan(mlp_critic, mlp_generator, 64, {"critic": mlp(784, 512, 512, 128), "head": mlp(64, 1), "generator": mlp(64, 512, 512, 784)},
                lambda: pictures(64, (784,), 1.0))
VGAN_DCGAN = vgan(conv_critic, dcgan_generator, 128, {
    "critic": [("conv", 3, 64), ("conv", 64, 128), ("conv", 128, 256), ("linear", 4096, 128, "of map", MAP256)], "head": mlp(64, 1),
    "generator": [("linear", 128, 4096, "to map", MAP256), ("norm", 256, 256), ("up without bias", 256, 128), ("norm", 128, 128),
                  ("up without bias", 128, 64), ("norm", 64, 64), ("up", 64, 3)]}, lambda: pictures(32, (3, 32, 32), 1.0))
MLP = functools.partial(infovae, encode=lambda B, p, x: net(B, p, x, B.relu), decode=lambda B, p, z: net(B, p, z, B.relu))
CONV = functools.partial(infovae, encode=lambda B, p, x: conv_encode(B, p, x, B.relu), decode=conv_decode)
BOTH = ("encoder", "decoder")

# name: data, networks, losses [(loss, what it trains, the salt of its weights)], learning rate, decays of Adam
STEPS = {
    "infovae_mlp": (lambda: pictures(128, (784,), 0.5, 0.5), {"encoder": mlp(784, 1024, 1024, 64), "decoder": mlp(32, 1024, 1024, 784)},
                    [(MLP, BOTH, 100)], 1e-4, (0.9, 0.999)),
    "infovae_conv": (lambda: pictures(64, (1, 32, 32), 0.5, 0.5), {
        "encoder": [("conv", 1, 32), ("conv", 32, 64), ("conv", 64, 128), ("linear", 2048, 64, "of map", MAP128)],
        "decoder": [("linear", 32, 2048, "to map", MAP128), ("up", 128, 64), ("up", 64, 32), ("up", 32, 1)]},
        [(CONV, BOTH, 100)], 1e-4, (0.9, 0.999)),
    "vdb_gauss2d": (two_sides, {"critic": mlp(2, 64, 64, 16), "head": mlp(8, 1)}, [(discriminator, ("critic", "head"), 100)], 1e-3,
                    (0.9, 0.999)),
    "vgan_mlp": VGAN_MLP[0], "vgan_mlp_without_r1": VGAN_MLP[1],
    "vgan_dcgan32": VGAN_DCGAN[0], "vgan_dcgan32_without_r1": VGAN_DCGAN[1],
    "ebgan_energy2d": (lambda: pictures(256, (2,), SPREAD), {
        "energy": mlp(2, 512, 512, 1), "generator": mlp(2, 512, 512, 2), "inverse": mlp(2, 512, 512, 2)},
        [(energy_loss, ("energy",), 100), (energy_player, ("generator", "inverse"), 200)], 1e-4, (0.5, 0.9)),
}


def prepare(B, name):
    data, nets, losses, rate, decays = STEPS[name.removesuffix("_fixed_noise")]
    put = lambda a: B.images(a) if a.ndim == 4 else B.array(a)
    pool, P = [{k: put(v) for k, v in d.items()} for d in data()], {}
    for _, trained, salt in losses:
        for k in trained:
            arrays, salt = weights(nets[k], salt)
            P[k] = B.params(nets[k], arrays)
    return pool, P, losses, rate, decays


def torch_step(name, tuned, fixed):
    """A function that makes one step and gives its losses."""
    B = Torch(tuned, fixed)
    t = B.t
    pool, P, losses, rate, decays = prepare(B, name)
    frozen = {k: [[a.detach() for a in layer] for layer in v] for k, v in P.items()}
    beta, count, todo = t.tensor(0.1), iter(range(1 << 60)), []
    for loss, trained, _ in losses:
        leaves = [a for k in trained for layer in P[k] for a in layer]
        nets = {k: P[k] if k in trained else frozen[k] for k in P}
        todo.append((functools.partial(loss, B, nets), t.optim.Adam(leaves, rate, decays, **({"fused": True} if tuned else {}))))

    def step():
        d, out = pool[next(count) % POOL], []
        for loss_of, optimizer in todo:
            loss, kl = loss_of(d, beta)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if kl is not None:
                with t.no_grad():
                    beta.add_(DUAL_STEP * (kl - TARGET)).clamp_(min=0)
            out.append(loss.detach())
        return [float(o) for o in out]

    return step


def jax_step(name, fixed):
    """A function that makes one step, all of it compiled, and gives its losses."""
    B = Jax(fixed)
    jax, jnp = B.j, B.np
    pool, P, losses, rate, (b1, b2) = prepare(B, name)
    zeros = lambda: jax.tree.map(jnp.zeros_like, P)
    box, count = [(P, zeros(), zeros(), jnp.float32(0), jnp.float32(0.1), jax.random.key(0))], iter(range(1 << 60))

    @functools.partial(jax.jit, donate_argnums=0)
    def whole(state, d):
        P, M, V, t, beta, key = state
        P, M, V, t, out = dict(P), dict(M), dict(V), t + 1, []
        s1, s2 = rate / (1 - b1**t), 1 - b2**t
        for loss_of, trained, _ in losses:
            key, sub = jax.random.split(key)
            f = lambda q: loss_of(Jax(fixed, sub), {**P, **q}, d, beta)
            (loss, kl), g = jax.value_and_grad(f, has_aux=True)({k: P[k] for k in trained})
            for k in trained:
                M[k] = jax.tree.map(lambda m, a: b1 * m + (1 - b1) * a, M[k], g[k])
                V[k] = jax.tree.map(lambda v, a: b2 * v + (1 - b2) * a * a, V[k], g[k])
                P[k] = jax.tree.map(lambda p, m, v: p - s1 * m / (jnp.sqrt(v / s2) + 1e-8), P[k], M[k], V[k])
            if kl is not None:
                beta = jnp.maximum(0, beta + DUAL_STEP * (kl - TARGET))
            out.append(loss)
        return (P, M, V, t, beta, key), out

    def step():
        box[0], out = whole(box[0], pool[next(count) % POOL])
        return [float(o) for o in out]

    return step
