"""The work of `benches/cuda` in PyTorch, on the same GPU: eager, compiled, and captured by hand in a CUDA graph.

    benches/cuda --list > cases.jsonl
    gpu.py --cases cases.jsonl [--json FILE] [--few] [--below N] [--device cpu] [NAME...]

The time of a case is taken as in `benches/cuda`: by events around replayed graphs of one and of several copies, where the contestant can
be captured; else around as many calls. Precision is that of the case: f32 in full, TF32, or bf16 operands (in training steps: autocast);
F32x3 has no counterpart, its rival is f32. With `--device cpu` nothing is captured: for a rehearsal."""
import argparse, json, math, statistics, sys, time

import torch
import torch.nn.functional as F

from steps import torch_step

torch.backends.cudnn.benchmark = True
COPIES, BUDGET = 11, 1.5e6  # as benches/cuda
DEVICE = "cuda"


def uniform(*shape, dtype=torch.float32, grad=False):
    return (torch.rand(*shape, device=DEVICE) * 2 - 1).to(dtype).requires_grad_(grad)


def turns(size):
    return max(1, min(COPIES, -(-(120 << 20) // max(size, 1))))


class Work:
    """f on operands that `make` makes, which take turns; `operands` are how many bytes one set has. With `differentiate`, what is timed
    is f and the gradient of its value with respect to all that want one."""

    def __init__(self, size, make, f, differentiate=False, compiled=True):
        self.operands, self.f, self.differentiate, self.can_compile = [make() for _ in range(turns(size))], f, differentiate, compiled

    def step(self, compiled=False):
        f = torch.compile(self.f) if compiled else self.f

        def run(i):
            operands = self.operands[i % len(self.operands)]
            out = f(*operands)
            return torch.autograd.grad(out, [x for x in operands if x.requires_grad]) if self.differentiate else out
        return run

    def contestants(self, short):
        """(name, step, whether it is captured in a graph)"""
        yield "eager", self.step(), not self.differentiate
        if self.differentiate:
            yield "captured", self.step(), True
        if short and self.can_compile:
            yield "compiled", self.step(True), not self.differentiate


# ------------------------------------------------------------------ the work, by id: f(shape, dtype, words of the id)


def elementwise(f):
    return lambda shape, dtype, _: Work(8 * math.prod(shape), lambda: (uniform(*shape, dtype=dtype),), f)


def reduction(shape, dtype, words):
    axes = {"all": (0, 1), "rows": (1,), "columns": (0,)}[words[1]]
    f = (lambda x: x.sum(axes)) if words[0] == "sum" else (lambda x: x.var(axes, correction=0))
    return Work(4 * math.prod(shape), lambda: (uniform(*shape, dtype=dtype),), f)


def product(shape, dtype, words):
    m, k, n = shape
    operand = lambda a, b, transposed: uniform(b, a, dtype=dtype).T if transposed else uniform(a, b, dtype=dtype)
    make = lambda: (operand(m, k, words[1][0] == "t"), operand(k, n, words[1][1] == "t"))
    return Work((m * k + k * n + m * n) * dtype.itemsize, make, torch.matmul, compiled=False)


def linear(shape, dtype, words):
    rows, inputs, outputs = shape
    size = (rows * inputs + inputs * outputs + rows * outputs) * dtype.itemsize
    make = lambda: tuple(uniform(*s, dtype=dtype) for s in ((rows, inputs), (outputs, inputs), (outputs,), (rows, outputs), (rows, outputs)))
    masked = lambda g, y: torch.ops.aten.threshold_backward(g, y, 0)
    f = {"forward": lambda x, w, b, g, y: F.linear(x, w, b).relu(), "dx": lambda x, w, b, g, y: masked(g, y) @ w}

    def dw(x, w, b, g, y):
        g = masked(g, y)
        return g.T @ x, g.sum(0)
    return Work(size, make, f.get(words[1], dw))


def convolution(channels_last):
    def work(shape, dtype, words):
        images, channels, side, filters, window, stride = shape
        transposed, padding = words[1] == "transpose2d", (window - 1) // 2
        result = side * stride if transposed else -(-side // stride)
        out = result + 2 * padding - window - (side - 1) * stride if transposed else 0
        w = (channels, filters, window, window) if transposed else (filters, channels, window, window)
        shapes = ((images, channels, side, side), w, (filters,), (images, filters, result, result))
        size = sum(math.prod(s) for s in shapes) * dtype.itemsize
        last = lambda x: x.contiguous(memory_format=torch.channels_last) if channels_last and x.dim() == 4 else x
        make = lambda: tuple(last(uniform(*s, dtype=dtype)) for s in shapes)
        if words[-1] == "forward":
            if transposed:
                return Work(size, make, lambda x, w, b, g: F.conv_transpose2d(x, w, b, stride, padding, out))
            return Work(size, make, lambda x, w, b, g: F.conv2d(x, w, b, stride, padding))
        mask = [True, False, False] if words[-1] == "dx" else [False, True, True]
        back = lambda x, w, b, g: torch.ops.aten.convolution_backward(
            g, x, w, [filters], [stride] * 2, [padding] * 2, [1, 1], transposed, [out] * 2, 1, mask)
        return Work(size, make, lambda *x: [y for y in back(*x) if y is not None], compiled=False)
    return work


def bottleneck(shape, dtype, words):
    rows, latent = shape
    backward = words[-1] != "forward"

    def f(x):
        mean, raw = x.chunk(2, 1)
        sigma = F.softplus(raw - 5)
        z = mean + sigma * torch.randn_like(sigma)
        kl = 0.5 * (mean.square() + sigma.square() - 1 - 2 * sigma.log()).sum(1)
        return z.sum() + kl.mean() if backward else (z, kl)
    return Work(8 * rows * latent * dtype.itemsize, lambda: (uniform(rows, 2 * latent, dtype=dtype, grad=backward),), f, backward)


def cross_entropy(shape, dtype, words):
    rows, classes = shape
    backward = words[-1] != "forward"
    target = torch.arange(rows, device=DEVICE) * 7 % classes
    make = lambda: (uniform(rows, classes, dtype=dtype, grad=backward),)
    return Work(3 * rows * classes * dtype.itemsize, make, lambda x: F.cross_entropy(x, target), backward)


def batch_norm(shape, dtype, words):
    backward = words[-1] != "forward"
    make = lambda: (uniform(*shape, dtype=dtype, grad=backward), uniform(shape[1], dtype=dtype, grad=backward), uniform(shape[1], dtype=dtype, grad=backward))
    norm = lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True)
    return Work(5 * math.prod(shape) * dtype.itemsize, make, (lambda *x: norm(*x).pow(3).sum()) if backward else norm, backward)


def mmd2(shape, dtype, words):
    """In the matrix form."""
    n, m, d = shape
    backward, unbiased = "forward" not in words, "unbiased" in words
    scales = [s * 2 * d for s in ((0.1, 0.2, 0.5, 1, 2, 5, 10) if words[1] == "imq7" else (1,))]
    kernel = (lambda u: torch.exp(-u / (2 * d * d))) if words[1] == "rbf" else (lambda u: sum(s / (s + u) for s in scales))

    def mean(x, y, same):
        k = kernel((x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.T).clamp_min(0))
        return (k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1)) if same and unbiased else k.mean()

    f = lambda x, y: mean(x, x, True) - 2 * mean(x, y, False) + mean(y, y, True)
    make = lambda: (uniform(n, d, dtype=dtype, grad=backward), uniform(m, d, dtype=dtype))
    return Work((2 * n + m) * d * dtype.itemsize, make, f, backward)


LISTS = {"vib": (802816, 1024, 1048576, 1024, 524288, 512, 2560, 10),
         "vgan": (401408, 512, 262144, 512, 65536, 128, 64, 1, 32768, 512, 262144, 512, 401408, 784)}


class Adam:
    """On one tensor or a list, with a moving average of the weights, or with gradients cut to a norm before."""

    def __init__(self, shape, dtype, words):
        self.sizes = next((LISTS[w] for w in words if w in LISTS), shape)
        self.average, self.clip = "ema" in words, "clip" in words

    def step(self, **how):
        weights = [uniform(n, grad=True) for n in self.sizes]
        for w in weights:
            w.grad = uniform(len(w))
        averages = [w.detach().clone() for w in weights]
        optimizer = torch.optim.Adam(weights, lr=1e-3, capturable=DEVICE == "cuda", **how)

        def run(_):
            if self.clip:
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            if self.average:
                torch._foreach_lerp_(averages, [w.detach() for w in weights], 0.001)
        return run

    def contestants(self, short):
        yield "foreach", self.step(foreach=True), True
        yield "fused", self.step(fused=True), True


class Step:
    """A training step."""

    def __init__(self, family, shape, autocast):
        self.family, self.make = family, lambda **how: self.numbered(torch_step(family, shape, device=DEVICE, autocast=autocast, **how))

    def numbered(self, step):
        return lambda _: step()

    def contestants(self, short):
        yield "eager", self.make(), False
        yield "captured", self.make(), True
        yield "tuned", self.make(tuned=True), True
        if short and "vgan" not in self.family and "energy" not in self.family:  # of a penalty torch.compile makes no derivative
            yield "compiled", self.make(tuned=True, compiled=True), False


class Both:
    """A convolution with its channels first and last."""

    def __init__(self, shape, dtype, words):
        self.make = lambda last: convolution(last)(shape, dtype, words)

    def contestants(self, short):
        yield from self.make(False).contestants(short)
        for name, step, captured in self.make(True).contestants(False):
            yield f"channels_last {name}", step, captured


BUILD = {
    "copy": elementwise(torch.clone), "exp": elementwise(torch.exp), "tanh": elementwise(torch.tanh), "softplus": elementwise(F.softplus),
    "normals": elementwise(torch.randn_like), "sum": reduction, "variance": reduction, "linear": linear, "matmul": product,
    "bottleneck": bottleneck, "cross": cross_entropy, "batch": batch_norm, "mmd2": mmd2, "conv2d": Both, "conv": Both, "adam": Adam,
}


def build(name, shape, kind):
    if name.endswith("_step"):
        return Step(name.removesuffix("_step"), shape, kind == "bf16")
    words = name.split("_")
    if words[0] == "conv2d":
        words = ["conv", "2d", *words[1:]]
    return BUILD[words[0]](shape, torch.bfloat16 if kind == "bf16" else torch.float32, words)


# ------------------------------------------------------------------ times


def elapsed(f):
    if DEVICE == "cpu":
        start = time.perf_counter()
        f()
        return (time.perf_counter() - start) * 1e6
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    f()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e3


def measure(run, captured, most):
    """Microseconds of one run."""
    if DEVICE == "cuda":
        with torch.cuda.stream(torch.cuda.Stream()):
            for i in range(3):
                run(i)
        torch.cuda.synchronize()

    def graph(copies):
        if not captured or DEVICE == "cpu":
            return lambda: [run(i) for i in range(copies)]
        g = torch.cuda.CUDAGraph()
        with torch.cuda.graph(g):
            for i in range(copies):
                run(i)
        return g.replay
    one = graph(1)
    elapsed(one)
    once = elapsed(one)
    copies = 2 if once > BUDGET / 100 else COPIES
    several, times = graph(copies), []
    for repetition in range(max(3, min(most, int(BUDGET / (once * (copies + 1))))) + 1):
        difference = -elapsed(one) + elapsed(several)
        if repetition > 0:  # the first one warms up
            times.append(difference / (copies - 1))
    times.sort()
    return statistics.median(times), (times[3 * len(times) // 4] - times[len(times) // 4]) / 2


def main():
    global DEVICE
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", required=True)
    parser.add_argument("--json")
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--below", type=float, default=math.inf)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    DEVICE = options.device
    out, failed = open(options.json, "w") if options.json else None, 0
    for line in open(options.cases):
        case = json.loads(line)
        name, shape, kind = case["id"], case["shape"], case["dtype"]
        if kind == "f32x3" or "accuracy" in name or math.prod(shape) >= options.below:
            continue
        if options.names and not any(name.startswith(n) for n in options.names):
            continue
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = kind == "tf32"
        label = "x".join(map(str, shape))
        for contestant, run, captured in build(name, shape, kind).contestants(case["short"]):
            try:
                us, spread = measure(run, captured, 3 if options.few else 30)
            except Exception as error:  # one that cannot be compiled or captured, or has no memory, is left out, not the others
                print(f"{name} {label} {kind} {contestant}: {type(error).__name__}: {error}", file=sys.stderr)
                failed += 1
                continue
            print(f"{name:28} {label:>22} {kind:>5} {contestant:>22} {us:12.2f} {spread / us * 100:6.1f}%", flush=True)
            if out:
                out.write(json.dumps({"id": name, "shape": label, "dtype": kind, "peer": f"torch {contestant}", "us": us, "spread_us": spread}) + "\n")
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
    if failed:
        print(f"{failed} left out", file=sys.stderr)


main()
