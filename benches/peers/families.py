"""The models of the training steps: each loss is written once, against the interface `B` that `peer_torch.py` and `peer_jax.py` have.
Sizes, batches and noise are those of `benches/cases/steps`."""
import functools, math

import numpy as np

from operands import POOL, labels, values

SPREAD, TARGET, DUAL_STEP, GAMMA = 1.75, 0.5, 1e-3, 10.0  # uniform noise in checks; I_c; the ascent of beta; R1


def mlp(*sizes):
    return [("linear", a, b) for a, b in zip(sizes, sizes[1:])]


# ------------------------------------------------------------------ losses: each gives itself, and the rate if beta follows it


def net(B, layers, x, act):
    for p in layers[:-1]:
        x = act(B.linear(x, p))
    return B.linear(x, layers[-1])


def halves(h):
    k = h.shape[1] // 2
    return h[:, :k], h[:, k:]


def kernel(B, x, y, of_squares=None):
    """Of squared distances; the Gaussian one if none is named."""
    squares = B.positive((x * x).sum(1)[:, None] + (y * y).sum(1)[None, :] - 2 * (x @ y.T))
    return of_squares(squares) if of_squares else B.exp(squares * (-0.5 / x.shape[1]))


def vib(B, P, d, beta):
    mu, raw = halves(net(B, P["encoder"], d["x"], B.relu))
    sigma = B.softplus(raw - 5.0)
    z = mu + sigma * B.normal(mu.shape, 500)
    kl = 0.5 * (mu * mu + sigma * sigma - 2 * B.log(sigma) - 1).sum(1).mean()
    return B.cross_entropy(B.linear(z, P["decoder"][0]), d["y"]) + 1e-3 * kl, None


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
    h = B.relu(B.linear(z, layers[0]))
    h = B.to_map(h, h.shape[1] // 16, 4, 4)
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


def autoencoder(B, P, x):
    """Codes, and the squared error of each sample."""
    codes = net(B, P["encoder"], x, B.leaky)
    difference = B.tanh(net(B, P["decoder"], codes, B.relu)) - x
    return codes, (difference * difference).sum(1)


def ebgan(B, P, d, beta):
    fake = B.stop(mlp_generator(B, P, B.normal((d["x"].shape[0], 64), 501)))
    return autoencoder(B, P, d["x"])[1].mean() + B.positive(400.0 - autoencoder(B, P, fake)[1]).mean(), None


def ebgan_player(B, P, d, beta):
    n = d["x"].shape[0]
    codes, energy = autoencoder(B, P, mlp_generator(B, P, B.normal((n, 64), 502)))
    unit = codes / (codes * codes).sum(1)[:, None] ** 0.5
    cosines = unit @ unit.T
    return energy.mean() + 0.1 * ((cosines * cosines).sum() - n) / (n * (n - 1)), None


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


def pictures(batch, shape, scale, shift=0.0):
    return lambda: [{"x": values((batch, *shape), 300 + i, scale) + values((1,), 0, 0.0) + shift} for i in range(POOL)]


def classified(batch):
    return lambda: [{"x": values((batch, 784), 300 + i), "y": labels(batch, 10, 400 + i)} for i in range(POOL)]


def two_sides(batch):
    point = lambda salt, x: values((batch, 2), salt, 0.75) + np.float32([x, 0])
    return lambda: [{"x": point(300 + i, 1.5), "fake": point(400 + i, -1.5)} for i in range(POOL)]


def of_vib(batch):
    return classified(batch), {"encoder": mlp(784, 1024, 1024, 512), "decoder": mlp(256, 10)}, [(vib, ("encoder", "decoder"), 100)], 1e-4, (0.9, 0.999)


def of_infovae(encode, decode, nets, data):
    loss = functools.partial(infovae, encode=encode, decode=decode)
    return data, nets, [(loss, ("encoder", "decoder"), 100)], 1e-4, (0.9, 0.999)


def infovae_mlp(batch):
    nets = {"encoder": mlp(784, 1024, 1024, 64), "decoder": mlp(32, 1024, 1024, 784)}
    return of_infovae(lambda B, p, x: net(B, p, x, B.relu), lambda B, p, z: net(B, p, z, B.relu), nets, pictures(batch, (784,), 0.5, 0.5))


def infovae_conv(batch, side):
    widths = [1] + [32 << i for i in range(int(math.log2(side // 4)))]
    last, pairs = widths[-1], list(zip(widths, widths[1:]))
    nets = {"encoder": [("conv", a, b) for a, b in pairs] + [("linear", 16 * last, 64, "of map", (last, 4, 4))],
            "decoder": [("linear", 32, 16 * last, "to map", (last, 4, 4))] + [("up", b, a) for a, b in reversed(pairs)]}
    return of_infovae(lambda B, p, x: conv_encode(B, p, x, B.relu), conv_decode, nets, pictures(batch, (1, side, side), 0.5, 0.5))


def vdb_gauss2d(batch):
    return two_sides(batch), {"critic": mlp(2, 64, 64, 16), "head": mlp(8, 1)}, [(discriminator, ("critic", "head"), 100)], 1e-3, (0.9, 0.999)


def vgan(critic, generator, latent, nets, data, r1):
    losses = [(functools.partial(discriminator, critic=critic, generator=generator, latent=latent, code=64, r1=r1), ("critic", "head"), 100),
              (functools.partial(player, critic=critic, generator=generator, latent=latent), ("generator",), 200)]
    return data, nets, losses, 1e-4, (0.5, 0.999)


def vgan_mlp(r1, batch):
    nets = {"critic": mlp(784, 512, 512, 128), "head": mlp(64, 1), "generator": mlp(64, 512, 512, 784)}
    return vgan(mlp_critic, mlp_generator, 64, nets, pictures(batch, (784,), 1.0), r1)


def vgan_dcgan32(r1, batch):
    nets = {
        "critic": [("conv", 3, 64), ("conv", 64, 128), ("conv", 128, 256), ("linear", 4096, 128, "of map", (256, 4, 4))], "head": mlp(64, 1),
        "generator": [("linear", 128, 4096, "to map", (256, 4, 4)), ("norm", 256, 256), ("up without bias", 256, 128), ("norm", 128, 128),
                      ("up without bias", 128, 64), ("norm", 64, 64), ("up", 64, 3)]}
    return vgan(conv_critic, dcgan_generator, 128, nets, pictures(batch, (3, 32, 32), 1.0), r1)


def ebgan_mlp(batch):
    nets = {"encoder": mlp(784, 512, 128), "decoder": mlp(128, 512, 784), "generator": mlp(64, 512, 512, 784)}
    return pictures(batch, (784,), 1.0), nets, [(ebgan, ("encoder", "decoder"), 100), (ebgan_player, ("generator",), 200)], 1e-4, (0.5, 0.999)


def ebgan_energy2d(batch, energy_steps):
    nets = {"energy": mlp(2, 512, 512, 1), "generator": mlp(2, 512, 512, 2), "inverse": mlp(2, 512, 512, 2)}
    losses = [(energy_loss, ("energy",), 100)] * energy_steps + [(energy_player, ("generator", "inverse"), 200)]
    return pictures(batch, (2,), SPREAD), nets, losses, 1e-4, (0.5, 0.9)


# By family and sizes: data, networks, losses [(loss, what it trains, the salt of its weights)], learning rate, decays of Adam. Losses in a
# row that train the same take turns with the data, and share an optimiser.
FAMILIES = {
    "vib": of_vib, "infovae_mlp": infovae_mlp, "infovae_conv": infovae_conv, "vdb_gauss2d": vdb_gauss2d,
    "vgan_mlp": functools.partial(vgan_mlp, True), "vgan_mlp_without_r1": functools.partial(vgan_mlp, False),
    "vgan_dcgan32": functools.partial(vgan_dcgan32, True), "vgan_dcgan32_without_r1": functools.partial(vgan_dcgan32, False),
    "ebgan_mlp": ebgan_mlp, "ebgan_energy2d": ebgan_energy2d,
}


# ------------------------------------------------------------------ what a step starts from


def weights(layers, salt):
    """One list of arrays per layer, and the salt after them: as `Trained::new` makes them."""
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
