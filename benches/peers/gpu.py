"""The work of `benches/cuda` in PyTorch, on the same GPU: eager, compiled, and captured by hand in a CUDA graph.

    gpu.py [--json FILE] [--few] [--below N] [NAME...]

The time of a case is taken as in `benches/cuda`: by events around replayed graphs of one and of several copies, where the contestant can
be captured; else around as many calls. The precision is full f32 unless the case says otherwise."""
import argparse, json, math, statistics, sys

import torch
import torch.nn.functional as F

torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = True
COPIES = 11
DEVICE = "cuda"


def uniform(*shape, dtype=torch.float32, grad=False):
    return (torch.rand(*shape, device=DEVICE) * 2 - 1).to(dtype).requires_grad_(grad)


def turns(size):
    return max(1, min(COPIES, -(-(120 << 20) // max(size, 1))))


def rotated(size, make):
    operands = [make() for _ in range(turns(size))]
    return lambda f: (lambda i: f(*operands[i % len(operands)]))


def elementwise(count, f):
    return rotated(8 * count, lambda: (uniform(count),)), f


def product(m, k, n, dtype=torch.float32):
    size = (m * k + k * n + m * n) * dtype.itemsize
    return rotated(size, lambda: (uniform(m, k, dtype=dtype), uniform(k, n, dtype=dtype))), torch.matmul


def with_gradients(size, make, f):
    """f(*operands) is a scalar; gradients are taken of those that want them."""
    run = rotated(size, make)

    def make_step(f):
        return run(lambda *operands: torch.autograd.grad(f(*operands), [x for x in operands if x.requires_grad]))
    return make_step, f


def linear(rows, width=1024):
    make = lambda: (uniform(rows, width, grad=True), uniform(width, width, grad=True), uniform(width, grad=True))
    return with_gradients((3 * rows + 2 * width) * width * 4, make, lambda x, w, b: F.linear(x, w, b).relu().sum())


def bottleneck(rows, latent):
    def f(x):
        mean, raw = x.chunk(2, 1)
        sigma = F.softplus(raw - 5)
        z = mean + sigma * torch.randn_like(sigma)
        kl = 0.5 * (mean.square() + sigma.square() - 1 - 2 * sigma.log()).sum(1)
        return z.sum() + kl.mean()
    return with_gradients(8 * rows * latent * 4, lambda: (uniform(rows, 2 * latent, grad=True),), f)


def cross_entropy(rows, classes):
    target = torch.arange(rows, device=DEVICE) * 7 % classes
    return with_gradients(3 * rows * classes * 4, lambda: (uniform(rows, classes, grad=True),), lambda x: F.cross_entropy(x, target))


def product_tf32():
    def f(a, b):
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return a @ b
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False
    return product(4096, 4096, 4096)[0], f


def mmd2(n, d, imq=False):
    scales = [s * 2 * d for s in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
    kernel = lambda u: sum(s / (s + u) for s in scales) if imq else torch.exp(-u / (2 * d * d))

    def squares(x, y):
        return (x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.T).clamp_min(0)

    def f(x, y):
        k = lambda a, b: kernel(squares(a, b)).mean()
        return k(x, x) - 2 * k(x, y) + k(y, y)
    return with_gradients(12 * n * d, lambda: (uniform(n, d, grad=True), uniform(n, d)), f)


def batch_norm():
    make = lambda: (uniform(64, 128, 16, 16, grad=True), uniform(128, grad=True), uniform(128, grad=True))
    return with_gradients(20 * 64 * 128 * 256, make, lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True).pow(3).sum())


def convolution(x, w, stride):
    results = x[0] * w[0] * (x[2] // stride) * (x[3] // stride)
    make = lambda: (uniform(*x, grad=True), uniform(*w, grad=True))
    return with_gradients(8 * (math.prod(x) + results), make, lambda x, w: F.conv2d(x, w, stride=stride, padding=1).sum())


def adam(count):
    def make(fused):
        weight = uniform(count, grad=True)
        weight.grad = uniform(count)
        optimizer = torch.optim.Adam([weight], lr=1e-3, fused=fused, foreach=not fused, capturable=True)
        return lambda _: optimizer.step()
    return make


def vib(batch):
    """Forward, backward, noise and Adam of the paper's classifier of MNIST."""
    def make(fused, compiled):
        from torch import nn
        layers = lambda *sizes: [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
        a, b, c, decoder = *layers(784, 1024, 1024, 512), nn.Linear(256, 10)
        model = nn.ModuleList([a, b, c, decoder]).to(DEVICE)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.5, 0.999), fused=fused, foreach=not fused, capturable=True)
        pool = [uniform(batch, 784) for _ in range(8)]
        target = torch.arange(batch, device=DEVICE) * 7 % 10

        def loss(x):
            mean, raw = c(b(a(x).relu()).relu()).chunk(2, 1)
            sigma = F.softplus(raw - 5)
            z = mean + sigma * torch.randn_like(sigma)
            kl = 0.5 * (mean.square() + sigma.square() - 1 - 2 * sigma.log()).sum(1)
            return F.cross_entropy(decoder(z), target) + 1e-3 * kl.mean()

        f = torch.compile(loss) if compiled else loss

        def step(i):
            optimizer.zero_grad(set_to_none=False)
            f(pool[i % 8]).backward()
            optimizer.step()
        return step
    return make


def vgan(batch):
    """One step of a discriminator with a bottleneck and R1, and one of the generator."""
    def make(fused, compiled):
        from torch import nn
        softplus, relu = F.softplus, nn.LeakyReLU(0.2)
        mlp = lambda *sizes: [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), relu)][:-1]
        encoder, head = nn.Sequential(*mlp(784, 512, 512, 128)).to(DEVICE), nn.Linear(64, 1).to(DEVICE)
        generator = nn.Sequential(*mlp(64, 512, 512, 784), nn.Tanh()).to(DEVICE)
        adam = lambda *nets: torch.optim.Adam([p for n in nets for p in n.parameters()], lr=1e-4, betas=(0.5, 0.999), fused=fused,
                                              foreach=not fused, capturable=True)
        critic, player = adam(encoder, head), adam(generator)
        pool = [uniform(batch, 784) for _ in range(8)]

        def of_critic(real, fake):
            real = real.detach().requires_grad_()
            stats = torch.cat([encoder(real), encoder(fake.detach())])
            mean, raw = stats.chunk(2, 1)
            logits = head(mean + raw.exp() * torch.randn_like(mean)).squeeze(1)
            kl = 0.5 * (mean.square() + (2 * raw).exp() - 1 - 2 * raw).sum(1).mean()
            slope = torch.autograd.grad(logits[:batch].sum(), real, create_graph=True)[0]
            loss = softplus(-logits[:batch]).mean() + softplus(logits[batch:]).mean()
            return loss + 0.1 * (kl - 0.5) + 5 * slope.square().sum(1).mean()

        def step(i):
            fake = generator(torch.randn(batch, 64, device=DEVICE))
            critic.zero_grad(set_to_none=False)
            of_critic(pool[i % 8], fake).backward()
            critic.step()
            player.zero_grad(set_to_none=False)
            softplus(-head(encoder(fake)[:, :64])).mean().backward()
            player.step()
        return step
    return make


def contestants(kind, made):
    """(name, step, whether it is captured in a graph) of each."""
    if kind == "plain":
        run, f = made
        yield "eager", run(f), True
        if f is not torch.matmul:
            yield "compiled", run(torch.compile(f)), True
    elif kind == "gradient":
        make_step, f = made
        yield "eager", make_step(f), False
        yield "captured", make_step(f), True
        yield "compiled", make_step(torch.compile(f)), False
    elif kind == "adam":
        yield "foreach", made(False), True
        yield "fused", made(True), True
    else:
        yield "eager", made(False, False), False
        yield "captured", made(True, False), True
        if kind == "step":  # of a penalty torch.compile makes no derivative
            yield "compiled", made(True, True), False


CASES = [
    ("copy", "67108864", "f32", ("plain", lambda: elementwise(1 << 26, lambda x: x.clone()))),
    ("exp", "10000000", "f32", ("plain", lambda: elementwise(10_000_000, torch.exp))),
    ("tanh", "10000000", "f32", ("plain", lambda: elementwise(10_000_000, torch.tanh))),
    ("softplus", "10000000", "f32", ("plain", lambda: elementwise(10_000_000, F.softplus))),
    ("normals", "16777216", "f32", ("plain", lambda: elementwise(1 << 24, torch.randn_like))),
    ("sum_all", "67108864", "f32", ("plain", lambda: elementwise(1 << 26, torch.sum))),
    ("sum_rows", "65536x1024", "f32", ("plain", lambda: elementwise(1 << 26, lambda x: x.view(1 << 16, 1 << 10).sum(1)))),
    ("sum_columns", "65536x1024", "f32", ("plain", lambda: elementwise(1 << 26, lambda x: x.view(1 << 16, 1 << 10).sum(0)))),
    ("matmul", "2048", "f32", ("plain", lambda: product(2048, 2048, 2048))),
    ("matmul", "4096", "f32", ("plain", lambda: product(4096, 4096, 4096))),
    ("matmul", "100x784x1024", "f32", ("plain", lambda: product(100, 784, 1024))),
    ("matmul", "1024x8192x1024", "f32", ("plain", lambda: product(1024, 8192, 1024))),
    ("matmul", "4096", "bf16", ("plain", lambda: product(4096, 4096, 4096, torch.bfloat16))),
    ("matmul_tf32", "4096", "f32", ("plain", product_tf32)),
    ("linear_relu", "100x1024x1024", "f32", ("gradient", lambda: linear(100))),
    ("linear_relu", "4096x1024x1024", "f32", ("gradient", lambda: linear(4096))),
    ("bottleneck", "100x256", "f32", ("gradient", lambda: bottleneck(100, 256))),
    ("bottleneck", "4096x256", "f32", ("gradient", lambda: bottleneck(4096, 256))),
    ("bottleneck", "65536x32", "f32", ("gradient", lambda: bottleneck(65536, 32))),
    ("bottleneck", "65536x256", "f32", ("gradient", lambda: bottleneck(65536, 256))),
    ("cross_entropy", "100x10", "f32", ("gradient", lambda: cross_entropy(100, 10))),
    ("cross_entropy", "65536x10", "f32", ("gradient", lambda: cross_entropy(65536, 10))),
    ("cross_entropy", "65536x1000", "f32", ("gradient", lambda: cross_entropy(65536, 1000))),
    ("mmd2", "1024x64", "f32", ("gradient", lambda: mmd2(1024, 64))),
    ("mmd2", "8192x64", "f32", ("gradient", lambda: mmd2(8192, 64))),
    ("mmd2_imq", "8192x64", "f32", ("gradient", lambda: mmd2(8192, 64, imq=True))),
    ("batch_norm", "64x128x16x16", "f32", ("gradient", batch_norm)),
    ("conv2d", "32x64x32x32", "f32", ("gradient", lambda: convolution((32, 64, 32, 32), (64, 64, 3, 3), 1))),
    ("conv2d_stride2", "64x64x32x32", "f32", ("gradient", lambda: convolution((64, 64, 32, 32), (128, 64, 4, 4), 2))),
    ("adam", "2380000", "f32", ("adam", lambda: adam(2_380_000))),
    ("adam", "100000000", "f32", ("adam", lambda: adam(100_000_000))),
    ("vib_step", "100", "f32", ("step", lambda: vib(100))),
    ("vib_step", "1000", "f32", ("step", lambda: vib(1000))),
    ("vgan_step", "64", "f32", ("penalty", lambda: vgan(64))),
]


def elapsed(f):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    f()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e3


def measure(run, captured, repetitions):
    """Microseconds of one run."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for i in range(3):
            run(i)
    torch.cuda.synchronize()

    def graph(copies):
        if not captured:
            return lambda: [run(i) for i in range(copies)]
        g = torch.cuda.CUDAGraph()
        with torch.cuda.graph(g):
            for i in range(copies):
                run(i)
        return g.replay
    one, several = graph(1), graph(COPIES)
    times = []
    for repetition in range(repetitions + 3):
        short, long = elapsed(one), elapsed(several)
        if repetition >= 3:
            times.append((long - short) / (COPIES - 1))
    times.sort()
    return statistics.median(times), (times[3 * len(times) // 4] - times[len(times) // 4]) / 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--below", type=float, default=math.inf)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    out = open(options.json, "w") if options.json else None
    for name, shape, dtype, (kind, make) in CASES:
        if options.names and not any(name.startswith(n) for n in options.names):
            continue
        if math.prod(map(int, shape.split("x"))) >= options.below:
            continue
        for contestant, run, captured in contestants(kind, make()):
            try:
                us, spread = measure(run, captured, 3 if options.few else 30)
            except Exception as error:  # one that cannot be compiled or captured is left out, not the others
                print(f"{name} {shape} {contestant}: {error}", file=sys.stderr)
                continue
            print(f"{name:28} {shape:>22} {dtype:>5} {contestant:>10} {us:12.2f} {spread / us * 100:6.1f}%", flush=True)
            if out:
                out.write(json.dumps({"id": name, "shape": shape, "dtype": dtype, "peer": f"torch {contestant}", "us": us, "spread_us": spread}) + "\n")
        torch.cuda.empty_cache()


main()
